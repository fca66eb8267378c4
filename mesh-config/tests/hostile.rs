//! Documents made to make the checker blow up: every one is answered, within bounds on time, stack and memory.

use std::fmt::Write as _;

use mesh_config::document::MAX_PROBLEMS;
use mesh_config::{Mesh, Problem};

const HEAD: &str = "[mesh]\nname = \"lab\"\nversion = 1\n[node.alpha]\n";

fn problems(text: &str) -> Vec<Problem> {
    let found = Mesh::check(text, "mesh.toml").expect_err("a hostile document is refused");
    assert!(found.len() <= MAX_PROBLEMS + 1);
    assert!(found.iter().any(Problem::is_error));
    for problem in &found {
        assert!(problem.to_string().len() < 2_000, "{} bytes", problem.to_string().len());
    }
    found
}

#[test]
fn a_million_levels_of_nesting_are_refused_without_recursion() {
    for (open, close) in [("[", "]"), ("{a=", "}"), ("[{a=", "}]")] {
        problems(&format!("{HEAD}[group]\nx = {}", open.repeat(1_000_000)));
        problems(&format!("{HEAD}[group]\nx = {}{}", open.repeat(1_000_000), close.repeat(1_000_000)));
    }
    problems(&format!("{HEAD}[{}a]\n", "a.".repeat(1_000_000)));
    problems(&format!("{HEAD}{}a = 1\n", "a.".repeat(1_000_000)));
    problems(&"[".repeat(1_000_000));
}

#[test]
fn the_deepest_nesting_that_is_read_fits_a_small_stack() {
    for (dots, levels) in [(8, 79), (8, 78), (9, 79), (78, 78)] {
        let key = format!("{}a", "a.".repeat(dots));
        let inline = format!("{{{key} = ").repeat(levels);
        let text = format!("{HEAD}[{key}]\n{key} = {inline}1{}\n", "}".repeat(levels));
        let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(move || problems(&text).len());
        assert!(thread.expect("a thread starts").join().expect("the stack holds") >= 1);
    }
}

#[test]
fn great_arrays_and_lines_are_answered() {
    problems(&format!("{HEAD}[group]\nx = [{}]", "1,".repeat(2_000_000)));
    problems(&format!("{HEAD}[group]\nx = [{}]", "\"alpha\",\"beta\",".repeat(500_000)));
    problems(&format!("{HEAD}{}", "x".repeat(8_000_000)));
    problems(&format!("{HEAD}x = \"{}\"", "é".repeat(4_000_000)));
    problems(&"\u{1b}[2J\u{0}=\u{7f}\r".repeat(100_000));
    problems(&"\n".repeat(16 << 20));
}

#[test]
fn a_megabyte_of_noise_does_not_become_a_million_problems() {
    for noise in ["=", "]", "a=\n", "\"\n", "a=1\n", "[a]\n", "[[a]]\n", ",", "'", "{}", "a.b=1\n"] {
        problems(&noise.repeat((1 << 20) / noise.len()));
        problems(&noise.repeat((4 << 20) / noise.len()));
    }
}

#[test]
fn groups_that_hold_groups_do_not_explode() {
    // Each group holds all before it: 2^1500 ways from the last to the first.
    let mut text = HEAD.to_owned() + "[group]\ng0 = [\"alpha\"]\n";
    let mut before = String::from("\"@g0\"");
    for n in 1..1_500 {
        let _infallible = writeln!(text, "g{n} = [{before}]");
        let _infallible = write!(before, ", \"@g{n}\"");
    }
    let mesh = Mesh::check(&text, "mesh.toml").expect("the groups hold together").mesh;
    assert!(mesh.groups().len() == 1_500 && mesh.groups().values().all(|members| members.len() == 1));
}

#[test]
fn a_chain_of_groups_each_one_node_greater_is_bounded() {
    let mut text = String::from("[mesh]\nname = \"lab\"\nversion = 1\n");
    for n in 0..20_000 {
        let _infallible = writeln!(text, "[node.n{n}]");
    }
    text.push_str("[group]\ng0 = []\n");
    for n in 1..20_000 {
        let _infallible = writeln!(text, "g{n} = [\"@g{}\", \"n{n}\"]", n - 1);
    }
    let found = problems(&text);
    assert!(found.iter().any(|p| p.message == "groups have more than 4000000 members together"), "{found:?}");
}

#[test]
fn a_circle_of_a_hundred_thousand_groups_is_shown_in_short() {
    let mut text = HEAD.to_owned() + "[group]\n";
    for n in 0..100_000 {
        let _infallible = writeln!(text, "g{n} = [\"@g{}\"]", (n + 1) % 100_000);
    }
    let found = problems(&text);
    assert!(
        found.iter().any(|p| p.message.starts_with("groups hold each other in a circle: @g0 → @g1 → ")
            && p.message.ends_with("(99992 more) → @g0")),
        "{found:?}"
    );
}

#[test]
fn a_thousand_unknown_names_among_ten_thousand_known_ones_are_answered() {
    let mut text = String::from("[mesh]\nname = \"lab\"\nversion = 1\n");
    for n in 0..10_000 {
        let _infallible = writeln!(text, "[node.a-node-with-quite-a-long-name-{n}]");
    }
    let unknown: Vec<String> = (0..5_000).map(|n| format!("\"a-node-with-quiet-a-long-name-{n}x\"")).collect();
    let _infallible = writeln!(text, "[service.x]\non = [{}]\ntarget = \"127.0.0.1:1\"", unknown.join(","));
    let found = problems(&text);
    assert_eq!(found.len(), MAX_PROBLEMS + 1);
    assert_eq!(found[0].hint.as_deref(), Some("did you mean `a-node-with-quite-a-long-name-0`?"));
}

#[test]
fn listeners_that_all_share_an_address_are_compared_within_bounds() {
    let mut text = String::from("[mesh]\nname = \"lab\"\nversion = 1\n");
    for n in 0..20_000 {
        let _infallible = writeln!(text, "[node.n{n}]");
    }
    let all: Vec<String> = (1..20_000).map(|n| format!("\"n{n}\"")).collect();
    let _infallible = writeln!(text, "[group]\nall = [{}]", all.join(","));
    for n in 0..40_000 {
        let _infallible = writeln!(
            text,
            "[service.s{n}]\non = [\"n0\"]\ntarget = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:{}\"\nallow = [\"@all\"]",
            n / 2 + 1
        );
    }
    problems(&text);
}

#[test]
fn what_a_file_says_cannot_reach_the_terminal_raw() {
    let text = format!("{HEAD}\"\\u001b[2J\\u202e\" = 1\n# \u{1b}\n[group]\n\"\\u0007\" = [\"\\u001b[31m\"]\n");
    for problem in problems(&text) {
        let shown = problem.to_string();
        assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
        assert!(!problem.message.contains(['\u{1b}', '\u{202e}', '\n']), "{:?}", problem.message);
    }
}
