//! What a host's `/etc/hosts` says, and changes of it that last for a while.

use std::fmt::Write;
use std::net::IpAddr;

/// The names that a host knows.
#[derive(Debug)]
pub(crate) struct Names {
    /// Lines of an address and a name.
    own: String,
    changes: Vec<Change>,
    next: u64,
}

#[derive(Debug)]
struct Change {
    number: u64,
    name: String,
    addresses: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn new(own: String) -> Self {
        Self { own, changes: Vec::new(), next: 0 }
    }

    /// From now on a name stands for these addresses alone, until this is taken back by its number. Of several changes
    /// of one name the last counts.
    pub(crate) fn change(&mut self, name: &str, addresses: &[IpAddr]) -> u64 {
        let number = self.next;
        self.next += 1;
        self.changes.push(Change { number, name: name.to_owned(), addresses: addresses.to_vec() });
        number
    }

    pub(crate) fn take_back(&mut self, number: u64) {
        self.changes.retain(|change| change.number != number);
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        let last = |name: &str| self.changes.iter().rev().find(|change| change.name.eq_ignore_ascii_case(name));
        let kept = self.own.lines().filter(|line| line.split(' ').nth(1).is_none_or(|name| last(name).is_none()));
        let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
        for change in &self.changes {
            let counts = last(&change.name).is_some_and(|last| last.number == change.number);
            for ip in change.addresses.iter().filter(|_| counts) {
                let _infallible = writeln!(text, "{ip} {}", change.name);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_of_a_name_counts_until_it_is_taken_back() {
        let own = "127.0.0.1 localhost\n10.1.0.1 alpha\nfd00::1 alpha\n10.1.0.2 beta\n";
        let mut names = Names::new(own.to_owned());
        assert_eq!(names.text(), own);
        let first = names.change("alpha", &["10.1.0.77".parse().unwrap()]);
        let second = names.change("alpha", &["10.1.0.78".parse().unwrap(), "fd00::78".parse().unwrap()]);
        let new = names.change("www.example", &["10.1.0.2".parse().unwrap()]);
        let changed = "127.0.0.1 localhost\n10.1.0.2 beta\n10.1.0.78 alpha\nfd00::78 alpha\n10.1.0.2 www.example\n";
        assert_eq!(names.text(), changed);
        names.take_back(second);
        assert_eq!(names.text(), "127.0.0.1 localhost\n10.1.0.2 beta\n10.1.0.77 alpha\n10.1.0.2 www.example\n");
        names.take_back(first);
        names.take_back(new);
        assert_eq!(names.text(), own);
    }
}
