use super::*;
use crate::Mesh;

const FILE: &str = r#"# Ours.

[mesh]
name = "lab"
version = 7          # raise it

# Nodes.

# The first.
[node.alpha]
address = "10.0.0.1:7443"   # in the rack

[node.beta]
[node.gamma]

[group]
users = ["beta", "gamma"]
all = [
    "@users",
    # and the rack
    "alpha",
]

# Services.

# For people.
[service.web]
on = ["alpha"]
target = "127.0.0.1:80"
listen = "127.0.0.1:8080"   # everywhere
allow = ["@users"]

[service.web.at.gamma]
listen = "127.0.0.1:8081"

[service.db]
on = ["alpha", "beta"]
target = "127.0.0.1:5432"
listen = "127.0.0.1:15432"
allow = [ "gamma" ] # alone
"#;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn done(editor: Editor) -> String {
    editor.finish().unwrap().expect("something has changed")
}

/// The lines that are only before, with `-`, and only after, with `+`, in their order; the version is left out.
fn changed(edit: impl FnOnce(&mut Editor)) -> String {
    changed_in(FILE, edit)
}

fn changed_in(before: &str, edit: impl FnOnce(&mut Editor)) -> String {
    let mut editor = Editor::new(before).unwrap();
    edit(&mut editor);
    let after = done(editor);
    Mesh::check(&after, "mesh.toml").unwrap_or_else(|problems| panic!("{problems:?} in\n{after}"));
    let (mut out, mut old, mut new) = (String::new(), before.lines().peekable(), after.lines().peekable());
    // Good enough where a change is in one place: what both have in a row from here on is the same.
    while old.peek().is_some() || new.peek().is_some() {
        if old.peek() == new.peek() {
            old.next();
            new.next();
            continue;
        }
        let same = |line: &&str| line.starts_with("version") || line.is_empty();
        let rest: Vec<&str> = new.clone().collect();
        match old.next() {
            Some(line) if !rest.contains(&line) => {
                if !same(&line) {
                    out += &format!("-{line}\n");
                }
            }
            found => {
                // What is new stands before it.
                while new.peek().is_some() && new.peek() != found.as_ref() {
                    let line = new.next().unwrap();
                    if !same(&line) {
                        out += &format!("+{line}\n");
                    }
                }
                new.next();
            }
        }
    }
    out
}

#[test]
fn what_says_the_same_keeps_its_version() {
    assert_eq!(Editor::new(FILE).unwrap().finish().unwrap(), None);
    let mut editor = Editor::new(FILE).unwrap();
    editor.allow(&service("db"), "alpha").unwrap();
    editor.deny(&service("db"), "alpha").unwrap();
    assert_eq!(editor.finish().unwrap(), None);
}

#[test]
fn a_node_is_added_behind_the_last_one() {
    let told = changed(|e| e.add_node(&node("delta"), &["10.0.0.4:7443".parse().unwrap()]).unwrap());
    assert_eq!(told, "+[node.delta]\n+address = \"10.0.0.4:7443\"\n");
    let mut editor = Editor::new(FILE).unwrap();
    editor.add_node(&node("delta"), &[]).unwrap();
    editor.add_node(&node("epsilon"), &["10.0.0.5:1".parse().unwrap(), "e.example:1".parse().unwrap()]).unwrap();
    let after = done(editor);
    let at = |text: &str| after.find(text).unwrap_or_else(|| panic!("no {text} in\n{after}"));
    assert!(at("[node.gamma]") < at("\n\n[node.delta]\n"), "{after}");
    assert!(at("[node.delta]") < at("\n\n[node.epsilon]\naddress = [\"10.0.0.5:1\", \"e.example:1\"]\n"), "{after}");
    assert!(at("[node.epsilon]") < at("[group]"), "{after}");
}

#[test]
fn a_node_is_removed_everywhere_and_comments_about_others_stay() {
    let mut places = Vec::new();
    let told = changed(|e| places = e.remove_node(&node("gamma")).unwrap());
    assert_eq!(places, ["group users", "service web at.gamma", "service db allow"]);
    assert_eq!(
        told,
        "-[node.gamma]\n-users = [\"beta\", \"gamma\"]\n+users = [\"beta\"]\n-[service.web.at.gamma]\n\
         -listen = \"127.0.0.1:8081\"\n-allow = [ \"gamma\" ] # alone\n+allow = [] # alone\n"
    );
    let without = FILE.replace("on = [\"alpha\"]", "on = [\"beta\"]").replace("allow = [\"@users\"]", "");
    let told = changed_in(&without, |e| places = e.remove_node(&node("alpha")).unwrap());
    assert_eq!(places, ["group all", "service db on"]);
    assert!(!told.contains("# Nodes."), "it stands above all of them: {told}");
    assert!(told.contains("-# The first."), "it was about that one: {told}");
}

#[test]
fn a_node_that_alone_offers_a_service_stays() {
    let fault = Editor::new(FILE).unwrap().remove_node(&node("alpha")).unwrap_err();
    assert_eq!(fault.message, "`alpha` alone offers the service `web`");
    assert!(fault.hint.unwrap().contains("adit service rm web"));
}

#[test]
fn a_service_comes_and_goes() {
    let new = NewService {
        name: service("mail"),
        protocol: Protocol::Udp,
        on: vec![node("beta")],
        target: "127.0.0.1:25".parse().unwrap(),
        listen: Some("127.0.0.1:2525".parse().unwrap()),
        allow: vec!["@users".to_owned(), "alpha".to_owned()],
    };
    let told = changed(|e| e.add_service(&new).unwrap());
    let added = "+[service.mail]\n+protocol = \"udp\"\n+on = [\"beta\"]\n+target = \"127.0.0.1:25\"\n\
                 +listen = \"127.0.0.1:2525\"\n+allow = [\"@users\", \"alpha\"]\n";
    assert_eq!(told, added);
    assert!(Editor::new(FILE).unwrap().add_service(&NewService { name: service("web"), ..new.clone() }).is_err());

    let mut editor = Editor::new(FILE).unwrap();
    editor.remove_service(&service("web")).unwrap();
    let after = done(editor);
    assert!(after.contains("# Services.\n"), "{after}");
    assert!(!after.contains("# For people.") && !after.contains("8081"), "{after}");
    Mesh::check(&after, "mesh.toml").unwrap();

    let bare = "[mesh]\nname = \"m\"\nversion = 1\n[node.beta]\n[node.alpha]\n";
    let mut editor = Editor::new(bare).unwrap();
    editor.add_service(&NewService { allow: vec!["alpha".to_owned()], ..new }).unwrap();
    let after = done(editor);
    assert!(after.starts_with(&bare.replace("version = 1", "version = 2")), "{after}");
    assert!(after.contains("\n\n[service.mail]\n"), "{after}");
}

#[test]
fn permits_come_and_go_in_their_list() {
    assert_eq!(
        changed(|e| assert!(e.allow(&service("db"), "@users").unwrap())),
        "-allow = [ \"gamma\" ] # alone\n+allow = [ \"gamma\" , \"@users\"] # alone\n"
    );
    assert_eq!(
        changed(|e| assert!(e.deny(&service("web"), "@users").unwrap())),
        "-allow = [\"@users\"]\n+allow = []\n"
    );
    let none = FILE.replace("allow = [\"@users\"]\n", "");
    assert_eq!(changed_in(&none, |e| assert!(e.allow(&service("web"), "beta").unwrap())), "+allow = [\"beta\"]\n");
    let lines = FILE.replace("allow = [\"@users\"]", "allow = [\n  \"beta\", # she\n  \"gamma\",\n]");
    assert_eq!(changed_in(&lines, |e| assert!(e.allow(&service("web"), "@all").unwrap())), "+  \"@all\",\n");
    let mut editor = Editor::new(FILE).unwrap();
    assert!(!editor.allow(&service("db"), "gamma").unwrap(), "it may already");
    assert!(!editor.deny(&service("db"), "beta").unwrap(), "it may not anyway");
    assert!(editor.allow(&service("wbe"), "beta").is_err());
    assert!(editor.deny(&service("wbe"), "beta").is_err());
}

#[test]
fn other_ways_to_write_tables_are_kept() {
    let inline = "mesh = { name = \"m\", version = 1 }\nnode = { alpha = {}, beta = { address = \"h:1\" } }\n";
    let mut editor = Editor::new(inline).unwrap();
    editor.add_node(&node("gamma"), &["h:2".parse().unwrap()]).unwrap();
    editor.remove_node(&node("alpha")).unwrap();
    let after = done(editor);
    let mesh = Mesh::check(&after, "mesh.toml").unwrap().mesh;
    assert_eq!(mesh.version().number(), 2);
    assert_eq!(mesh.nodes().keys().map(NodeName::as_str).collect::<Vec<_>>(), ["beta", "gamma"]);

    let dotted = "mesh.name = \"m\"\nmesh.version = 1\nnode.alpha.address = \"h:1\"\n";
    let mut editor = Editor::new(dotted).unwrap();
    editor.add_node(&node("beta"), &[]).unwrap();
    let after = done(editor);
    assert_eq!(Mesh::check(&after, "mesh.toml").unwrap().mesh.nodes().len(), 2, "{after}");
}

#[test]
fn a_version_that_cannot_be_raised_is_told() {
    let top = FILE.replace("version = 7 ", "version = 9223372036854775807 ");
    for text in [&top, &FILE.replace("version = 7 ", "version = \"7\" "), "", "[mesh]\n"] {
        let mut editor = Editor::new(text).unwrap();
        editor.add_node(&node("delta"), &[]).unwrap();
        let fault = editor.finish().unwrap_err();
        assert_eq!(fault.message, "`mesh.version` cannot be raised");
    }
    assert!(Editor::new("[mesh").is_err_and(|fault| fault.message.starts_with("is not TOML: ")));
}

#[test]
fn a_document_to_be_signed_gets_its_version_and_keeps_its_comments() {
    let text = "# ours\n[mesh]\nname = \"lab\" # the mesh\nversion = 3 # raised with every change\n\n[node.alpha]\n";
    let version = |n| crate::MeshVersion::new(n).unwrap();
    let signed = Editor::new(text).unwrap().signed(version(7)).unwrap();
    assert_eq!(
        signed,
        "# ours\n[mesh]\nname = \"lab\" # the mesh\nversion = 7 # raised with every change\nsigned = true\n\n[node.alpha]\n"
    );
    assert!(crate::Mesh::check(&signed, "mesh.toml").unwrap().mesh.signed());
    assert_eq!(Editor::new(&signed).unwrap().signed(version(7)).unwrap(), signed, "a second time changes nothing");
    let said_no = signed.replace("signed = true", "signed = false # not yet");
    let again = Editor::new(&said_no).unwrap().signed(version(8)).unwrap();
    assert!(again.contains("version = 8 #") && again.contains("signed = true # not yet"), "{again}");
    assert!(Editor::new("[node.alpha]\n").unwrap().signed(version(1)).is_err());
}
