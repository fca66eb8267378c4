//! Addresses, targets and listeners as text.
//!
//! Every address has one spelling: IPv4-mapped IPv6 becomes the IPv4 address that it is, DNS names are lower case, in
//! ASCII, without a trailing dot. So comparing parsed values compares places.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::diagnostic::quote;
use crate::fault::Fault;
use crate::model::{Address, Host, Listen, Target};

/// The longest path of a Unix socket, in bytes: Linux's `sun_path` less its closing zero (unix(7)).
const MAX_UNIX_PATH: usize = 107;
/// The longest DNS name, in characters as written (RFC 1035 §2.3.4 less the root and its length octets).
const MAX_DNS: usize = 253;

impl FromStr for Address {
    type Err = Fault;

    /// A host and port: `10.0.0.1:7443`, `[2001:db8::1]:7443`, `alpha.example.net:7443`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let (host, port) = split(text)?;
        let host = host_of(text, host, port)?;
        let port = port_of(text, port)?;
        if let Host::Ip(ip) = host {
            dialable(text, ip, port)?;
        }
        Ok(Self { host, port })
    }
}

impl FromStr for Target {
    type Err = Fault;

    /// A host and port, or `unix:` and an absolute path.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Address);
        };
        let fault = |why: &str| Fault::new(format!("{} is not a Unix socket's address: {why}", quote(text)));
        if !path.starts_with('/') {
            return Err(fault("its path is not absolute").hint("write the whole path, such as \"unix:/run/app.sock\""));
        }
        if path.ends_with('/') {
            return Err(
                fault("its path is a directory's").hint("name the socket in it, such as \"unix:/run/app.sock\"")
            );
        }
        if path.chars().any(char::is_control) {
            return Err(fault("its path has a control character"));
        }
        if path.len() > MAX_UNIX_PATH {
            return Err(fault("its path is longer than the 107 bytes that the kernel takes"));
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

impl FromStr for Listen {
    type Err = Fault;

    /// An IP address and a port, or `auto`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        socket(text).map(Self::Socket)
    }
}

/// The address and port that a listener binds: `127.0.0.1:15432`, `[::1]:15432`, wildcards included.
///
/// # Errors
/// [`Fault`] says what is wrong with it.
pub fn parse_listener(text: &str) -> Result<SocketAddr, Fault> {
    socket(text)
}

fn socket(text: &str) -> Result<SocketAddr, Fault> {
    let (host, port) = split(text)?;
    match host_of(text, host, port)? {
        Host::Ip(ip) if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            Err(Fault::new(format!("nothing can listen on {}: it is a multicast or broadcast address", quote(text))))
        }
        Host::Ip(ip) => Ok(SocketAddr::new(ip, port_of(text, port)?)),
        Host::Dns(_) => Err(Fault::new(format!("{} is not an IP address and a port", quote(text)))
            .hint("listeners are bound to an address of the host, such as \"127.0.0.1:15432\"")),
    }
}

/// Takes host and port apart at the last colon outside brackets.
fn split(text: &str) -> Result<(&str, &str), Fault> {
    let fault = || Fault::new(format!("{} is not a host and a port", quote(text)));
    let shown = quote(text);
    let shown = shown.trim_matches('`');
    if text.is_empty() {
        return Err(fault().hint("write an address such as \"10.0.0.1:7443\" or \"host.example.net:7443\""));
    }
    if text.contains("://") {
        return Err(fault().hint("leave out the scheme: an address is HOST:PORT"));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, port)) if port.starts_with(':') => Ok((host, port.trim_start_matches(':'))),
            Some((_, "")) => Err(fault().hint(format!("add the port: \"{shown}:PORT\""))),
            _ => Err(fault().hint("IPv6 addresses are written \"[2001:db8::1]:7443\"")),
        };
    }
    match text.rsplit_once(':') {
        None => Err(fault().hint(format!("add the port: \"{shown}:PORT\""))),
        Some((host, _)) if host.contains(':') => {
            let hint = match text.parse::<Ipv6Addr>() {
                Ok(_) => format!("put the IPv6 address in brackets and add the port: \"[{shown}]:PORT\""),
                Err(_) => "put the IPv6 address in brackets: \"[2001:db8::1]:7443\"".to_owned(),
            };
            Err(fault().hint(hint))
        }
        Some(("", port)) => {
            Err(fault().hint(format!("name the host: \"127.0.0.1:{}\"", quote(port).trim_matches('`'))))
        }
        Some(parts) => Ok(parts),
    }
}

fn port_of(text: &str, port: &str) -> Result<u16, Fault> {
    let fault = |why: &str| Fault::new(format!("the port of {} {why}", quote(text)));
    if port.is_empty() {
        return Err(fault("is missing").hint("add a number from 1 to 65535 after the colon"));
    }
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault("is not a number").hint("ports are numbers from 1 to 65535"));
    }
    if port.len() > 1 && port.starts_with('0') {
        return Err(fault("begins with a zero").hint("write it without the zero"));
    }
    match port.parse() {
        Ok(0) => Err(fault("is 0, which nobody can connect to").hint("choose a port from 1 to 65535")),
        Ok(port) => Ok(port),
        Err(_) => Err(fault("is too great").hint("ports end at 65535")),
    }
}

fn host_of(text: &str, host: &str, port: &str) -> Result<Host, Fault> {
    if text.starts_with('[') {
        if host.contains('%') {
            return Err(Fault::new(format!("{} has a zone, which means something else on every host", quote(text)))
                .hint("use an address without `%`"));
        }
        let ip: Ipv6Addr = host.parse().map_err(|_| {
            Fault::new(format!("{} is not an IPv6 address", quote(host)))
                .hint("brackets hold an IPv6 address: \"[2001:db8::1]:7443\"")
        })?;
        return Ok(Host::Ip(ip.to_canonical()));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    dns_name(host, port).map(|name| Host::Dns(name.into()))
}

/// `host` as a DNS name in its one spelling.
fn dns_name<'h>(host: &'h str, port: &str) -> Result<&'h str, Fault> {
    let fault = |why: &str| Fault::new(format!("{} is not a host name: {why}", quote(host)));
    let written = |host: &str| format!("write \"{}:{}\"", quote(host).trim_matches('`'), quote(port).trim_matches('`'));
    if !host.is_ascii() {
        return Err(fault("it has characters outside ASCII")
            .hint("write internationalised names in their ASCII form, which begins with `xn--`"));
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(fault("it has upper case").hint(written(&host.to_ascii_lowercase())));
    }
    if let Some(bare) = host.strip_suffix('.') {
        return Err(fault("it ends with a dot").hint(written(bare)));
    }
    if host.len() > MAX_DNS {
        return Err(fault("it is longer than 253 characters"));
    }
    // Resolvers take a name that ends in a number for an odd spelling of an IPv4 address (WHATWG URL §3.5).
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Fault::new(format!("{} is not an IPv4 address", quote(host)))
            .hint("IPv4 addresses are four numbers from 0 to 255, such as \"10.0.0.1\", without leading zeros"));
    }
    for label in host.split('.') {
        if label.is_empty() {
            return Err(fault("a part between dots is empty"));
        }
        if label.len() > crate::name::MAX_NAME {
            return Err(fault("a part between dots is longer than 63 characters"));
        }
        if let Some(c) = label.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(fault(&format!("{} cannot stand in it", quote(&c.to_string()))));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(fault("a part begins or ends with a hyphen"));
        }
    }
    Ok(host)
}

/// Refuses addresses that no other host, or nobody at all, can connect to.
fn dialable(text: &str, ip: IpAddr, port: u16) -> Result<(), Fault> {
    let fault = |why: &str| Fault::new(format!("nothing can connect to {}: {why}", quote(text)));
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if ip.is_unspecified() {
        Err(fault("it is a wildcard").hint(format!("name an address that others can reach, or \"127.0.0.1:{port}\"")))
    } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Err(fault("it is a multicast or broadcast address"))
    } else if link_local {
        Err(fault("a link-local IPv6 address needs a zone, which means something else on every host")
            .hint("use a global or unique local (fd00::/8) address"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, spelled) in [
            ("10.0.0.1:7443", "10.0.0.1:7443"),
            ("[2001:DB8:0::1]:1", "[2001:db8::1]:1"),
            ("[::ffff:10.0.0.1]:65535", "10.0.0.1:65535"),
            ("[::1]:7443", "[::1]:7443"),
            ("alpha:7443", "alpha:7443"),
            ("xn--bcher-kva.example:7443", "xn--bcher-kva.example:7443"),
            ("4a.b-c.example.net:7443", "4a.b-c.example.net:7443"),
        ] {
            let address: Address = text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"));
            assert_eq!(address.to_string(), spelled);
            assert_eq!(spelled.parse(), Ok(address), "reads back");
        }
    }

    #[test]
    fn a_bad_address_says_what_to_do() {
        for (text, message, hint) in [
            ("", "not a host and a port", "such as \"10.0.0.1:7443\""),
            ("10.0.0.1", "not a host and a port", "add the port: \"10.0.0.1:PORT\""),
            ("alpha", "not a host and a port", "add the port: \"alpha:PORT\""),
            ("[::1]", "not a host and a port", "add the port: \"[::1]:PORT\""),
            ("[::1]7443", "not a host and a port", "[2001:db8::1]:7443"),
            ("2001:db8::1:7443", "not a host and a port", "in brackets"),
            ("tcp://10.0.0.1:7443", "not a host and a port", "leave out the scheme"),
            (":7443", "not a host and a port", "\"127.0.0.1:7443\""),
            ("alpha:", "is missing", "1 to 65535"),
            ("alpha:0", "is 0", "1 to 65535"),
            ("alpha:+7443", "is not a number", "1 to 65535"),
            ("alpha:65536", "is too great", "65535"),
            ("alpha:07443", "begins with a zero", "without the zero"),
            ("alpha:99999999999999999999", "is too great", "65535"),
            ("[fe80::1%eth0]:1", "has a zone", "without `%`"),
            ("[fe80::1]:1", "link-local", "fd00::/8"),
            ("[10.0.0.1]:1", "is not an IPv6 address", "[2001:db8::1]"),
            ("0.0.0.0:1", "wildcard", "127.0.0.1:1"),
            ("[::]:1", "wildcard", "127.0.0.1:1"),
            ("[::ffff:0.0.0.0]:1", "wildcard", "127.0.0.1:1"),
            ("Alpha.example:1", "upper case", "\"alpha.example:1\""),
            ("alpha.example.:1", "ends with a dot", "\"alpha.example:1\""),
            ("bücher.example:1", "outside ASCII", "xn--"),
            ("10.0.0.256:1", "not an IPv4 address", "0 to 255"),
            ("010.0.0.1:1", "not an IPv4 address", "leading zeros"),
            ("0x7f000001:1", "not an IPv4 address", "0 to 255"),
            ("10.1:1", "not an IPv4 address", "0 to 255"),
        ] {
            let fault = text.parse::<Address>().unwrap_err();
            assert!(fault.message.contains(message), "{text}: {fault:?}");
            assert!(fault.hint.as_deref().is_some_and(|h| h.contains(hint)), "{text}: {fault:?}");
        }
        let long = format!("{}:1", "a.".repeat(126) + "aa");
        let label = format!("{}:1", "a".repeat(64));
        for text in ["224.0.0.1:1", "255.255.255.255:1", "a..b:1", "-a:1", "a-:1", "a_b:1", "a b:1", &long, &label] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn targets_are_addresses_or_unix_sockets() {
        assert_eq!("unix:/run/app.sock".parse::<Target>().unwrap().to_string(), "unix:/run/app.sock");
        assert_eq!("db.example:5432".parse::<Target>().unwrap().to_string(), "db.example:5432");
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["unix:", "unix:run/app", "unix:@abstract", "unix:/run/", "unix:/a\0b", &long, "/run/app.sock"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        assert!(long[..long.len() - 1].parse::<Target>().is_ok());
    }

    #[test]
    fn listeners_are_ip_addresses_or_auto() {
        assert_eq!("auto".parse::<Listen>(), Ok(Listen::Auto));
        for good in ["127.0.0.1:1", "0.0.0.0:80", "[::]:80", "[::1]:80"] {
            assert_eq!(good.parse::<Listen>().unwrap().to_string(), good);
        }
        assert_eq!("[::ffff:127.0.0.1]:80".parse::<Listen>().unwrap().to_string(), "127.0.0.1:80");
        for bad in ["localhost:80", "127.0.0.1:0", "127.0.0.1", "Auto", "", "224.0.0.1:80", "[fe80::1%1]:80"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
