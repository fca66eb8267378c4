use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn around() -> Surroundings {
    let programs = [("server".to_owned(), PathBuf::from("/bin/server"))].into();
    Surroundings { folder: PathBuf::from("/nonexistent"), programs }
}

fn parse(text: &str) -> Result<Scenario, Vec<Problem>> {
    Scenario::parse(text, "t.toml", &around())
}

fn good(text: &str) -> Scenario {
    parse(text).unwrap_or_else(|problems| panic!("{}", told(&problems)))
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

const EVERYTHING: &str = include_str!("everything.toml");

#[test]
fn a_scenario_of_one_line_is_a_network() {
    let scenario = good("hosts = [\"alpha\", \"beta\", \"gamma\"]");
    let ips: Vec<String> =
        scenario.hosts().filter_map(|name| scenario.directory.first_address(name)).map(|ip| ip.to_string()).collect();
    assert_eq!(ips, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
    assert_eq!((scenario.name(), scenario.counts()), ("t", (0, 0)));
}

#[test]
fn everything_that_a_scenario_may_hold_is_read() {
    let scenario = good(EVERYTHING);
    let kinds: HashSet<&str> = scenario.faults.iter().map(|injection| injection.fault.kind()).collect();
    assert_eq!(kinds, faults::KINDS.iter().map(|(name, _)| *name).collect(), "every kind of fault is in it");
    let ip = |host: &str| scenario.directory.first_address(host).map(|ip| ip.to_string());
    assert_eq!(ip("alpha").as_deref(), Some("192.168.1.2"), "what is given is kept");
    assert_eq!(scenario.directory.address("gamma", "beta").map(|ip| ip.to_string()).as_deref(), Some("203.0.113.1"));
    let cables: Vec<&str> = scenario.directory.cables.iter().map(|cable| &*cable.name).collect();
    assert_eq!(cables, ["alpha@home", "router@home", "router@internet", "beta@internet", "gamma@internet", "direct"]);
}

#[test]
fn a_schedule_that_was_written_is_read_as_the_same() {
    let scenario = good(EVERYTHING);
    let schedule = scenario.schedule(11);
    let text = scenario.write_schedule(&schedule, 11);
    let (seed, again) =
        scenario.read_schedule(&text, "s.toml").unwrap_or_else(|problems| panic!("{}", told(&problems)));
    assert_eq!((seed, again), (11, schedule));
}

/// Every problem of a text as `LINE:COLUMN message (hint)`.
fn problems(text: &str) -> Vec<String> {
    let found = parse(text).expect_err(text);
    let line = |problem: &Problem| {
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}:{} {}{hint}", problem.line, problem.column, problem.message)
    };
    found.iter().map(line).collect()
}

#[test]
fn every_problem_is_told_at_once_with_its_place_and_what_was_meant() {
    let text = r#"hosts = ["alpha", "beta"]
sed = 3
[program.web]
on = "alhpa"
program = "sever"
[[fault]]
at = "2"
kind = "partitoin"
[[fault]]
at = "1s"
for = "2s"
kind = "pair"
on = ["alpha", "gamma"]
groups = []
[[check]]
at = "1s"
kind = "reachable"
except = ["alpha > beta"]
[[check]]
at = "1s"
kind = "http"
from = "alpha"
url = "http://{ip.beto}/"
"#;
    assert_eq!(
        problems(text),
        [
            "2:1 unknown key `sed` in the scenario (did you mean `seed`?)",
            "4:6 there is no host `alhpa` (did you mean `alpha`?)",
            "5:11 there is no program `sever` (did you mean `server`?)",
            "7:6 `2` is not a duration such as \"250ms\", \"1.5s\" or \"2m\", a day at most",
            "8:8 `partitoin` is not a kind of fault (did you mean `partition`?)",
            "13:16 there is no host `gamma` (there is alpha, beta)",
            "14:1 unknown key `groups` in a fault of the kind pair (a fault of the kind pair takes at, kind, on, reject, down, up, for)",
            "18:11 `alpha > beta` is not a pair (write \"alpha -> beta\", or \"alpha <-> beta\" for both ways)",
            "23:7 there is no host `beto` for {ip.beto} (did you mean `beta`?)",
        ]
    );
}

/// A client that is there for four seconds, and a fault.
fn client(keys: &str, fault: &str) -> String {
    format!(
        "hosts = [\"a\", \"b\"]\n[service.s]\non = \"a\"\nkind = \"receiver\"\nport = 1\n[client.c]\non = \"b\"\nto = \"a:1\"\n\
         service = \"s\"\nfor = \"4s\"\n{keys}\n[[fault]]\nkind = \"isolate\"\non = \"b\"\n{fault}\n"
    )
}

#[test]
fn a_client_sees_the_end_of_a_fault_if_it_is_there_for_long_enough() {
    good(&client("back_within = \"2s\"", "at = \"1s\"\nfor = \"1s\""));
    good(&client("served = 0.5", "at = \"1s\""));
}

#[test]
fn what_cannot_be_is_refused() {
    for (text, expected) in [
        ("", "0:0 there is no host"),
        ("hosts = [\"a\", \"a\"]", "1:15 `a` is there twice"),
        ("hosts = [\"../a\"]", "1:10 `../a` is not a name"),
        ("hosts = [\"a\"]\nname = \"..\"", "2:8 `..` is not a name"),
        ("hosts = [\"a\"", "1:13 "),
        ("hosts = [\"a\", \"b\"]\n[network.n]\nmembers = [\"a\"]", "1:15 `b` is on no network"),
        ("hosts = [\"a\"]\n[network.n]\nmembers = [\"c\"]", "3:12 there is no host, router or network `c`"),
        ("hosts = [\"a\"]\n[network.n]\nsubnet = \"10.1.0.1/24\"", "3:10 `10.1.0.1/24` is not a network"),
        ("hosts = [\"a\",\"b\",\"c\"]\n[network.n]\nsubnet = \"10.1.0.0/30\"", "1:18 no address is left for `c`"),
        (
            "hosts = [\"a\"]\n[network.n]\n[network.n.at.a]\naddress = \"10.9.0.1\"",
            "4:11 10.9.0.1 is not on this network",
        ),
        (
            "hosts = [\"a\"]\n[network.n]\nmembers = [\"a\", \"r\"]\n[router.r]\nnat = \"symmetric\"",
            "4:1 what translates",
        ),
        ("hosts = [\"a\"]\n[network.n]\nloss = 2", "3:8 `loss` takes a share"),
        ("hosts = [\"a\"]\n[network.n]\nqueue = \"1kB\"", "3:9 a queue forms only before a bottleneck"),
        ("hosts = [\"a\"]\n[network.n]\njitter = {}", "3:10 jitter is either normal or a table"),
        ("hosts = [\"a\",\"b\"]\n[link.l]\nends = [\"a\"]", "2:1 `l` needs two ends"),
        ("hosts = [\"a\",\"b\"]\n[link.l]\nends = [\"a\",\"a\"]", "3:13 `a` is joined to itself"),
        ("hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"crash\"\non = \"a\"", "5:6 no program runs on `a`"),
        ("hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"rebind\"\non = \"a\"", "5:6 there is no router `a`"),
        ("hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"hold\"", "4:8 a fault of the kind hold needs `for`"),
        (
            "hosts = [\"a\",\"b\"]\nlasts = \"1s\"\n[[check]]\nat = \"2s\"\nkind = \"reachable\"",
            "3:1 this is after the end",
        ),
        (
            "hosts = [\"a\",\"b\"]\n[random]\nfaults = 3\nlongest = \"5s\"\nhealed_by = \"3s\"",
            "5:13 the longest fault would not be healed by then",
        ),
        (
            "hosts = [\"a\",\"b\"]\n[random]\nfaults = 3\nlongest = \"5s\"\nhealed_by = \"9s\"\nkinds = [\"bridge\"]",
            "6:10 no random fault of the kind bridge can be made here",
        ),
        (
            "hosts = [\"a\",\"b\"]\n[host.a.files]\n\"../x\" = \"\"",
            "3:1 `../x` is not a file below the working directory",
        ),
        ("hosts = [\"a\"]\n[host.a.files]\nx = \"{ip.b}\"", "3:5 there is no host `b` for {ip.b}"),
        (
            "hosts = [\"a\"]\n[client.c]\non = \"a\"\nto = \"a:1\"\nservice = \"s\"\nfor = \"1s\"",
            "5:11 there is no receiver `s`",
        ),
        ("hosts = [\"a\"]\n[client.c]\non = \"a\"\nto = \"a\"\nfor = \"1s\"", "4:6 `a` is no address with a port"),
        (
            &client("back_within = \"3s\"", "at = \"1s\"\nfor = \"1s\""),
            "6:9 no fault ends while c could be served again",
        ),
        (&client("forbidden = true\nserved = 1", "at = \"1s\""), "6:1 a client that is forbidden is not served"),
        (
            "hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"clock\"\non = \"a\"\noffset = \"1s\"",
            "2:1 no program on a sees its simulated clock",
        ),
        (
            "hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"clock\"\non = \"a\"\noffset = \"1y\"",
            "6:10 `1y` is not an offset",
        ),
        ("hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"clock\"\non = \"a\"", "2:1 it needs `offset` or `rate`"),
        (
            "hosts = [\"a\"]\n[[fault]]\nat = \"1s\"\nkind = \"rename\"\nname = \"b c\"\naddress = \"x\"",
            "6:11 `x` is not an address",
        ),
        ("a.a.a.a.a.a.a.a.a.a.a = 1", "1:18 this is nested too deeply"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{text}\n{found:#?}");
    }
}

#[test]
fn while_packets_are_held_nothing_else_happens() {
    let fault = |at: &str, lasts: &str, kind: &str| format!("[[fault]]\nat = \"{at}\"\nfor = \"{lasts}\"\n{kind}\n");
    let hold = fault("2s", "1s", "kind = \"hold\"");
    for (at, lasts, fits) in [("1s", "500ms", true), ("1s", "1s", false), ("2s", "3s", false), ("3s", "1s", true)] {
        let other = fault(at, lasts, "kind = \"pair\"\non = [\"a\", \"b\"]");
        assert_eq!(parse(&format!("hosts = [\"a\", \"b\"]\n{hold}{other}")).is_ok(), fits, "{at} for {lasts}");
    }
}

const CHANCE: &str = "hosts = [\"a\", \"b\", \"c\", \"d\"]\n[program.p]\non = \"a\"\nprogram = \"server\"\n[random]\n";

proptest! {
    #[test]
    fn the_same_seed_makes_the_same_schedule_within_its_bounds_and_every_fault_ends(
        seed in any::<u64>(),
        count in 1_u32..60,
        from in 0_u64..5_000,
        longest in 1_u64..4_000,
        more in 0_u64..10_000,
    ) {
        let healed_by = from + longest + more;
        let text = format!(
            "{CHANCE}faults = {count}\nfrom = \"{from}ms\"\nlongest = \"{longest}ms\"\nhealed_by = \"{healed_by}ms\"\n"
        );
        let scenario = good(&text);
        let schedule = scenario.schedule(seed);
        prop_assert_eq!(&schedule, &scenario.schedule(seed));
        prop_assert_eq!(schedule.len(), count as usize);
        prop_assert!(schedule.is_sorted_by_key(|injection| injection.at));
        let millis = Duration::from_millis;
        for injection in &schedule {
            prop_assert!(injection.at >= millis(from));
            prop_assert_eq!(injection.lasts.is_none(), injection.fault.is_instant());
            let lasts = injection.lasts.unwrap_or_default();
            prop_assert!(lasts <= millis(longest) && injection.at + lasts <= millis(healed_by), "{:?}", injection);
        }
        // What was written replays without chance.
        let written = scenario.write_schedule(&schedule, seed >> 1);
        let again = scenario.read_schedule(&written, "s.toml");
        prop_assert_eq!(again, Ok((seed >> 1, schedule)));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z\\[\\]=\"\\.{}, \n0-9]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_damage_to_a_scenario_makes_the_reader_panic(at in 0_usize..6_000, put in "[\\[\\]=\"x0\n{}-]{0,3}", length in 0_usize..20) {
        let from = EVERYTHING.floor_char_boundary(at.min(EVERYTHING.len()));
        let to = EVERYTHING.floor_char_boundary((from + length).min(EVERYTHING.len()));
        let text = format!("{}{put}{}", &EVERYTHING[..from], &EVERYTHING[to..]);
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.is_empty());
        }
    }
}

#[test]
fn different_seeds_make_different_schedules() {
    let scenario = good(&format!("{CHANCE}faults = 5\nlongest = \"3s\"\nhealed_by = \"20s\"\n"));
    let all: Vec<String> = (0..50).map(|seed| scenario.write_schedule(&scenario.schedule(seed), 0)).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 50);
    let kinds: HashSet<&str> =
        (0..50).flat_map(|seed| scenario.schedule(seed)).map(|injection| injection.fault.kind()).collect();
    assert_eq!(kinds.len(), 13, "every kind that can be made here: {kinds:?}");
}
