//! Envoy as a pair of TCP proxies, two workers each.

use std::process::Child;

use adit_tests::Mesh;
use anyhow::Result;

use super::Pair;

/// What a side is configured by: the last part of a listener, the transport of its upstream, and what else that needs.
struct Side<'a> {
    node: &'a str,
    listen: &'a str,
    target: &'a str,
    filter: &'a str,
    downstream: &'a str,
    upstream: &'a str,
}

/// One TLS connection for each of the application's.
pub(super) fn tcp(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let at = pair.certificates()?;
    let (server, client) = (tls(&at, "alpha", "beta", ""), tls(&at, "beta", "alpha", ""));
    both(&pair, [(&tcp_proxy(""), &server), (&tcp_proxy(""), &client)])
}

/// The application's connections are streams of shared ones, as in the HBONE of service meshes.
pub(super) fn connect(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let at = pair.certificates()?;
    let alpn = "alpn_protocols: [h2], ";
    let (server, client) = (tls(&at, "alpha", "beta", alpn), tls(&at, "beta", "alpha", alpn));
    let manager = format!(
        "{{name: hcm, typed_config: {{'@type': {TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: h, codec_type: HTTP2, stream_idle_timeout: 0s, http2_protocol_options: {{allow_connect: true}}, \
         upgrade_configs: [{{upgrade_type: CONNECT}}], \
         http_filters: [{{name: r, typed_config: {{'@type': {TYPE}.filters.http.router.v3.Router}}}}], \
         route_config: {{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{connect_matcher: {{}}}}, \
         route: {{cluster: up, timeout: 0s, upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{}}}}]}}}}]}}]}}}}}}"
    );
    let http2 = format!(
        "{client}\n    typed_extension_protocol_options: {{{OPTIONS}: {{'@type': {TYPE}.upstreams.http.v3.HttpProtocolOptions, \
         explicit_http_config: {{http2_protocol_options: {{}}}}}}}}"
    );
    both(&pair, [(&manager, &server), (&tcp_proxy(", tunneling_config: {hostname: 'app.lab:443'}"), &http2)])
}

const TYPE: &str = "type.googleapis.com/envoy.extensions";
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn tcp_proxy(more: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{'@type': {TYPE}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: up, \
         idle_timeout: 0s{more}}}}}"
    )
}

/// TLS 1.3 as `node`, with nobody but `peer`.
fn tls(at: &str, node: &str, peer: &str, alpn: &str) -> String {
    let (kind, more) = if node == "alpha" {
        ("DownstreamTlsContext", "require_client_certificate: true")
    } else {
        ("UpstreamTlsContext", "sni: alpha.lab")
    };
    format!(
        "transport_socket: {{name: tls, typed_config: {{'@type': {TYPE}.transport_sockets.tls.v3.{kind}, {more}, \
         common_tls_context: {{{alpn}tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificates: [{{certificate_chain: {{filename: {at}/{node}.pem}}, private_key: {{filename: {at}/{node}.key}}}}], \
         validation_context: {{trusted_ca: {{filename: {at}/ca.pem}}, \
         match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: {peer}.lab}}}}]}}}}}}}}"
    )
}

/// The server's end with its filter and the TLS of its listener, and the client's with its filter and the TLS of its cluster.
fn both(pair: &Pair<'_>, [server, client]: [(&str, &str); 2]) -> Result<Vec<Child>> {
    let alpha = Side {
        node: "alpha",
        listen: &pair.wire,
        target: &pair.target,
        filter: server.0,
        downstream: server.1,
        upstream: "",
    };
    let beta = Side {
        node: "beta",
        listen: &pair.entry,
        target: &pair.wire,
        filter: client.0,
        downstream: "",
        upstream: client.1,
    };
    Ok(vec![start(pair, &alpha, "1")?, start(pair, &beta, "2")?])
}

fn start(pair: &Pair<'_>, side: &Side<'_>, base: &str) -> Result<Child> {
    let socket = |address: &str| match address.rsplit_once(':') {
        Some((host, port)) => format!("{{socket_address: {{address: '{host}', port_value: {port}}}}}"),
        None => String::new(),
    };
    let (listen, target) = (socket(side.listen), socket(side.target));
    let Side { node, filter, downstream, upstream, .. } = side;
    let text = format!(
        "static_resources:
  listeners:
  - name: l
    address: {listen}
    filter_chains:
    - filters:
      - {filter}
      {downstream}
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {target}}}}}]}}]}}
    {upstream}
"
    );
    let file = pair.write(&format!("{node}.yaml"), &text)?;
    pair.spawn(node, "envoy", &["-c", &file, "--concurrency", "2", "-l", "error", "--base-id", base])
}
