//! Every kind of problem, alone in a small document: its severity, place, message and hint.

use mesh_config::Mesh;

/// What comes before each case: three nodes and a service that needs nothing more, on lines 1 to 12.
const HEAD: &str = r#"[mesh]
name = "lab"
version = 3
[node.alpha]
address = "10.0.0.1:7443"
[node.beta]
[node.gamma]
[service.web]
on = ["alpha"]
target = "127.0.0.1:80"
listen = "127.0.0.1:8080"
allow = ["beta"]
"#;

/// `LINE:COLUMN severity: message | hint` for each problem of a document.
fn found(text: &str) -> Vec<String> {
    let problems = match Mesh::check(text, "mesh.toml") {
        Ok(checked) => checked.warnings,
        Err(problems) => problems,
    };
    problems
        .iter()
        .map(|p| {
            let hint = p.hint.as_deref().unwrap_or("-");
            format!("{}:{} {}: {} | {hint}", p.line, p.column, p.severity, p.message)
        })
        .collect()
}

#[track_caller]
fn whole(text: &str, expected: &[&str]) {
    assert_eq!(found(text), expected, "\n{text}");
}

/// A document that begins with [`HEAD`]; lines of `extra` count from 13.
#[track_caller]
fn extra(extra: &str, expected: &[&str]) {
    whole(&format!("{HEAD}{extra}"), expected);
}

#[test]
fn the_head_of_the_cases_has_no_problems() {
    extra("", &[]);
}

#[test]
fn the_mesh_table_is_checked() {
    whole("[node.a]\n", &["1:1 error: the file needs `mesh` | add `[mesh]`"]);
    whole(
        "[mesh]\nname = \"1\"\nversion = 0\ntransport = \"tsl\"\n",
        &[
            "1:1 warning: the mesh has no nodes | add one: [node.NAME] with address = \"HOST:7443\"",
            "2:8 error: `1` is not a mesh name: a mesh name needs at least one letter | names are a-z, 0-9 and -, begin and end with a letter or digit, and have 63 characters at most",
            "3:11 error: `version` is a whole number from 1 to 9223372036854775807 | -",
            "4:13 error: `tsl` is not a transport | did you mean `tls`?",
        ],
    );
    whole(
        "[mesh]\nnames = 3\nversion = 99999999999999999999\n[node.a]\n",
        &[
            "1:1 error: [mesh] needs `name` | add `name = \"lab\"`",
            "2:1 error: unknown key `names` in [mesh] | did you mean `name`?",
            "3:11 error: `version` is a whole number from 1 to 9223372036854775807 | -",
        ],
    );
    whole(
        "[mesh]\nname = 3\nversion = \"3\"\n[node.a]\n",
        &[
            "2:8 error: `name` takes a string, not an integer | put it in quotes: \"3\"",
            "3:11 error: `version` takes an integer, not a string | write it without quotes: 3",
        ],
    );
    whole(
        "mesh = 3\n",
        &[
            "1:1 warning: the mesh has no nodes | add one: [node.NAME] with address = \"HOST:7443\"",
            "1:8 error: `mesh` takes a table, not an integer | -",
        ],
    );
}

#[test]
fn versions_go_up_to_what_toml_can_say() {
    let text = HEAD.replace("version = 3", "version = 9_223_372_036_854_775_807");
    assert_eq!(Mesh::check(&text, "f").unwrap().mesh.version().number(), u64::try_from(i64::MAX).unwrap());
}

#[test]
fn unknown_keys_suggest_the_nearest() {
    extra(
        "[node.x]\nadress = \"1.2.3.4:5\"\ncolour = 1\n[nodes.y]\n",
        &[
            "14:1 error: unknown key `adress` in [node.x] | did you mean `address`?",
            "15:1 error: unknown key `colour` in [node.x] | [node.x] takes address, roles",
            "16:2 error: unknown key `nodes` in the file | did you mean `node`?",
        ],
    );
    extra(
        "[service.web.at.beta]\nlisten = \"auto\"\nlissen = \"auto\"\n",
        &["15:1 error: unknown key `lissen` in [service.web.at.beta] | did you mean `listen`?"],
    );
}

#[test]
fn wrong_types_say_what_was_expected_and_found() {
    extra(
        "[node.x]\naddress = 5\nroles = \"ca\"\n",
        &[
            "14:11 error: `address` takes a string or a list of strings, not an integer | -",
            "15:9 error: `roles` takes a list of strings, not a string | write [\"ca\"]",
        ],
    );
    extra(
        "[node.x]\naddress = [\"1.2.3.4:5\", 6, { a = 1 }]\n",
        &[
            "14:25 error: `address` takes a list of strings alone, not an integer | -",
            "14:28 error: `address` takes a list of strings alone, not a table | -",
        ],
    );
    extra("[[node]]\n", &["13:3 error: duplicate key | it is set further up already: keep one of the two"]);
    whole(
        "[mesh]\nname = \"lab\"\nversion = 1\n[[node]]\n",
        &[
            "1:1 warning: the mesh has no nodes | add one: [node.NAME] with address = \"HOST:7443\"",
            "4:1 error: `node` takes tables, [node.NAME], not a list | write [node.NAME], with single brackets and a name for each",
        ],
    );
    extra(
        "[[service.x]]\n",
        &["13:1 error: `x` takes a table, not a list | write its header once, with single brackets"],
    );
    extra(
        "[service.x]\non = [\"alpha\"]\ntarget = true\nallow = 2020-01-01\nlisten = 1.5\n",
        &[
            "15:10 error: `target` takes a string, not `true` | put it in quotes: \"true\"",
            "16:9 error: `allow` takes a list of strings, not a date or time | -",
            "17:10 error: `listen` takes a string, not a number with a fraction | put it in quotes: \"1.5\"",
        ],
    );
}

#[test]
fn what_is_not_toml_is_told_and_the_rest_is_read() {
    extra(
        "[node.x]\naddress = oops\nversion = \n[node.x]\nrolls = []\n",
        &[
            "14:11 error: string values must be quoted | write \"oops\"",
            "15:1 error: unknown key `version` in [node.x] | [node.x] takes address, roles",
            "15:11 error: a value is missing | write one after the `=`, or take the line out",
            "16:7 error: duplicate key | it is set further up already: keep one of the two",
            "17:1 error: unknown key `rolls` in [node.x] | did you mean `roles`?",
        ],
    );
}

#[test]
fn names_are_checked_once_and_not_again_where_they_are_used() {
    extra(
        "[node.Web_1]\n[group]\n-x = []\n\"é\" = [\"Web_1\"]\n[service.\"a.b\"]\non = [\"alpha\"]\ntarget = \"x:1\"\n",
        &[
            "13:7 error: `Web_1` is not a node name: `W` cannot stand in a name: only a-z, 0-9 and - can | `web-1` would do",
            "15:1 error: `-x` is not a group name: a name begins and ends with a letter or a digit | `x` would do",
            "16:1 error: `é` is not a group name: `é` cannot stand in a name: only a-z, 0-9 and - can | names are a-z, 0-9 and -, begin and end with a letter or digit, and have 63 characters at most",
            "17:10 error: `a.b` is not a service name: `.` cannot stand in a name: only a-z, 0-9 and - can | `a-b` would do",
        ],
    );
}

#[test]
fn an_address_belongs_to_one_node() {
    extra(
        "[node.x]\naddress = [\"[::ffff:10.0.0.1]:7443\", \"x:1\", \"x:1\"]\nroles = [\"ca\", \"ca\", \"rely\"]\n",
        &[
            "14:12 error: nodes `alpha` and `x` both have the address 10.0.0.1:7443 | an address leads to one node: give one of them another port or host",
            "14:45 warning: node `x` has the address x:1 twice | keep one of the two",
            "15:16 warning: node `x` has a role twice | keep one of the two",
            "15:22 error: `rely` is not a role | did you mean `relay`?",
        ],
    );
}

#[test]
fn groups_hold_nodes_and_groups_that_exist_and_no_circle() {
    extra(
        "[group]\nall = [\"alpa\", \"@some\", \"@beta\", \"some1\", \"beta\", \"beta\"]\nsome1 = []\n",
        &[
            "14:1 warning: group `all` is never used | name it in the `allow` of a service, \"@all\", or take it out",
            "14:8 error: there is no node `alpa` | did you mean `alpha`?",
            "14:16 error: there is no group `@some` | did you mean \"@some1\"?",
            "14:25 error: there is no group `@beta` | `beta` is a node: write \"beta\"",
            "14:34 error: there is no node `some1` | `some1` is a group: write \"@some1\"",
            "14:51 warning: `beta` stands in this list twice | keep one of the two",
        ],
    );
    extra(
        "[group]\na = [\"@b\"]\nb = [\"@c\"]\nc = [\"@a\", \"@b\"]\nd = [\"@d\"]\n",
        &[
            "16:6 error: groups hold each other in a circle: @a → @b → @c → @a | take one of them out of another",
            "16:12 error: groups hold each other in a circle: @b → @c → @b | take one of them out of another",
            "17:6 error: group `d` holds itself | take one of them out of another",
        ],
    );
    extra(
        "[group]\nx = [\"@nosuchgroup\", \"nosuchnode\", \"No\"]\n",
        &[
            "14:1 warning: group `x` is never used | name it in the `allow` of a service, \"@x\", or take it out",
            "14:6 error: there is no group `@nosuchgroup` | add it under [group]: nosuchgroup = [\"NODE\"]",
            "14:22 error: there is no node `nosuchnode` | add [node.nosuchnode], or name one of the nodes that are there",
            "14:36 error: there is no node `No` | name one of the nodes that are there",
        ],
    );
}

#[test]
fn a_service_needs_nodes_and_a_target() {
    extra(
        "[service.x]\nallow = [\"beta\"]\nlisten = \"auto\"\n",
        &[
            "13:1 error: [service.x] needs `on` | add `on = [\"NODE\"]`",
            "13:1 error: [service.x] needs `target` | add `target = \"127.0.0.1:PORT\"`",
        ],
    );
    extra(
        "[service.x]\non = []\ntarget = \"x:1\"\nallow = [\"beta\"]\nlisten = \"auto\"\nprotocol = \"upd\"\n",
        &[
            "14:6 error: no node offers `x` | name at least one node: on = [\"NODE\"]",
            "18:12 error: `upd` is not a protocol | did you mean `udp`?",
        ],
    );
    extra(
        "[service.x]\non = [\"@all\", \"alpha\", \"alpha\"]\ntarget = \"unix:/x\"\nallow = [\"beta\"]\nlisten = \"auto\"\nprotocol = \"udp\"\n",
        &[
            "14:7 error: `@all` is no node | `on` names nodes, not groups: write the members of `all` one by one",
            "14:24 warning: `alpha` stands in this list twice | keep one of the two",
            "15:10 error: `x` carries UDP, and its target is a Unix socket | give a UDP service a target such as \"127.0.0.1:53\"",
        ],
    );
}

#[test]
fn a_service_that_nobody_reaches_or_listens_for_is_told() {
    extra(
        "[service.x]\non = [\"alpha\"]\ntarget = \"x:1\"\nlisten = \"auto\"\n",
        &["13:10 warning: nobody may reach `x` | name nodes or groups: allow = [\"NODE\", \"@GROUP\"]"],
    );
    extra(
        "[group]\nno = []\n[service.x]\non = [\"alpha\"]\ntarget = \"x:1\"\nlisten = \"auto\"\nallow = [\"@no\"]\n",
        &["19:9 warning: nobody may reach `x` | name nodes or groups: allow = [\"NODE\", \"@GROUP\"]"],
    );
    extra(
        "[service.x]\non = [\"alpha\"]\ntarget = \"x:1\"\nlisten = \"auto\"\nallow = [\"alpha\"]\n",
        &[
            "17:9 warning: `x` is allowed only to nodes that offer it | a node does not reach what it offers itself: name other nodes in `allow`",
        ],
    );
    extra(
        "[service.x]\non = [\"alpha\"]\ntarget = \"x:1\"\nallow = [\"beta\"]\n",
        &[
            "13:10 warning: no node listens for `x` | add listen = \"127.0.0.1:PORT\" for applications on the allowed nodes, or listen = \"auto\"",
        ],
    );
}

#[test]
fn overrides_that_change_nothing_are_told() {
    extra(
        "[service.web.at.alpha]\nlisten = \"auto\"\ntarget = \"x:1\"\n[service.web.at.beta]\ntarget = \"x:1\"\n[service.web.at.gamma]\nlisten = \"auto\"\n[service.web.at.gama]\n",
        &[
            "14:10 warning: node `alpha` offers `web`, so it does not listen for it | applications there use the target: take this line out",
            "17:10 warning: node `beta` does not offer `web`, so it has no target there | add `beta` to `on`, or take this line out",
            "19:10 warning: node `gamma` may not reach `web`, so it does not listen | add `gamma` to `allow`, or take this line out",
            "20:17 error: there is no node `gama` | did you mean `gamma`?",
        ],
    );
}

/// A second service that `allow`s `beta`, with the given listener and protocol.
fn second(listen: &str, protocol: &str) -> String {
    format!(
        "[service.b]\non = [\"alpha\"]\ntarget = \"x:1\"\nlisten = \"{listen}\"\nallow = [\"beta\"]\nprotocol = \"{protocol}\"\n"
    )
}

#[test]
fn two_listeners_cannot_share_an_address_on_one_node() {
    let hint = "give one of them another port, or another `listen` under [service.b.at.beta]";
    extra(
        &second("127.0.0.1:8080", "tcp"),
        &[&format!("16:10 error: `web` and `b` both listen on 127.0.0.1:8080 at node `beta` | {hint}")],
    );
    for wide in ["0.0.0.0:8080", "[::]:8080"] {
        extra(
            &second(wide, "tcp"),
            &[&format!(
                "16:10 error: `b` cannot listen on {wide} at node `beta`: `web` listens on 127.0.0.1:8080 | {hint}"
            )],
        );
    }
    for (listen, protocol) in [
        ("127.0.0.1:8080", "udp"),
        ("127.0.0.2:8080", "tcp"),
        ("[::1]:8080", "tcp"),
        ("127.0.0.1:8081", "tcp"),
        ("auto", "tcp"),
    ] {
        extra(&second(listen, protocol), &[]);
    }
    // Nodes that reach only one of the two do not care.
    extra(&second("127.0.0.1:8080", "tcp").replace("allow = [\"beta\"]", "allow = [\"gamma\"]"), &[]);
    // An override moves a listener out of the way, or into it.
    let moved = second("127.0.0.1:8080", "tcp") + "[service.b.at.beta]\nlisten = \"127.0.0.1:8081\"\n";
    extra(&moved, &[]);
    let moved = second("127.0.0.1:8081", "tcp") + "[service.b.at.beta]\nlisten = \"127.0.0.1:8080\"\n";
    extra(&moved, &[&format!("20:10 error: `web` and `b` both listen on 127.0.0.1:8080 at node `beta` | {hint}")]);
}

#[test]
fn an_ipv4_wildcard_leaves_ipv6_alone_and_an_ipv6_wildcard_does_not_leave_ipv4_alone() {
    let web = |listen: &str| HEAD.replace("127.0.0.1:8080", listen);
    for (first, then, collide) in [
        ("0.0.0.0:1", "[::1]:1", false),
        ("0.0.0.0:1", "[::]:1", true),
        ("[::]:1", "[::1]:1", true),
        ("[::]:1", "127.0.0.1:1", true),
        ("[::1]:1", "0.0.0.0:1", false),
    ] {
        let text = web(first) + &second(then, "tcp");
        assert_eq!(Mesh::check(&text, "f").is_err(), collide, "{first} {then}");
    }
}

#[test]
fn the_port_of_the_mesh_itself_is_taken() {
    let hint = "the agent takes that port for TCP and UDP, on all addresses unless told otherwise: use another";
    let on_alpha = |listen: &str| {
        format!(
            "[service.b]\non = [\"beta\"]\ntarget = \"x:1\"\nlisten = \"{listen}\"\nallow = [\"alpha\", \"gamma\"]\n"
        )
    };
    for listen in ["10.0.0.1:7443", "0.0.0.0:7443", "[::]:7443"] {
        extra(
            &on_alpha(listen),
            &[&format!(
                "16:10 error: `b` listens on {listen} at node `alpha`, where the mesh itself is at 10.0.0.1:7443 | {hint}"
            )],
        );
    }
    extra(
        &on_alpha("127.0.0.1:7443"),
        &[&format!(
            "16:10 warning: `b` listens on 127.0.0.1:7443 at node `alpha`, where the mesh itself is at 10.0.0.1:7443 | {hint}"
        )],
    );
    extra(&on_alpha("127.0.0.1:7444"), &[]);
}

#[test]
fn places_count_characters_in_lines_of_any_ending() {
    let text = HEAD.replace('\n', "\r\n");
    whole(
        &format!("\u{feff}{text}\t[node.\"é\"]\r\n"),
        &[
            "13:8 error: `é` is not a node name: `é` cannot stand in a name: only a-z, 0-9 and - can | names are a-z, 0-9 and -, begin and end with a letter or digit, and have 63 characters at most",
        ],
    );
    whole(
        &format!("{text}[node.x] # é\r\naddress = [ \"é:1\", \"b\" ]\r\n"),
        &[
            "14:13 error: `é` is not a host name: it has characters outside ASCII | write internationalised names in their ASCII form, which begins with `xn--`",
            "14:20 error: `b` is not a host and a port | add the port: \"b:PORT\"",
        ],
    );
}

#[test]
fn json_has_the_keys_that_scripts_read() {
    let problems = Mesh::check("[mesh]\nname = \"lab\"\nversion = 0\n[node.a]\n", "m.toml").unwrap_err();
    assert_eq!(
        serde_json::to_string(&problems).unwrap(),
        r#"[{"severity":"error","file":"m.toml","line":3,"column":11,"message":"`version` is a whole number from 1 to 9223372036854775807","hint":null}]"#
    );
}
