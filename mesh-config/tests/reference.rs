//! The users' reference of the mesh file holds: its example checks, and its problems are those that are shown.

use mesh_config::Mesh;

fn blocks(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mesh-file.md"))
        .expect("the reference is there");
    let opening = format!("```{language}\n");
    let parts = text.split(opening.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_example_checks_without_a_warning() {
    let example = &blocks("toml")[0];
    let checked = Mesh::check(example, "mesh.toml").unwrap_or_else(|problems| panic!("{}", problems[0]));
    assert_eq!(checked.warnings, []);
    assert_eq!(checked.mesh.services().len(), 3);
}

#[test]
fn the_problems_shown_are_those_of_such_a_file() {
    let text = "[mesh]\nname = \"lab\"\nversion = 1\n[node.alpha]\nadress = \"10.0.0.1:7443\"\n[node.beta]\n\
                [service.web]\ntarget = \"127.0.0.1:80\"\non = [\"alhpa\"]\nallow = [\"beta\"]\nlisten = \"auto\"\n";
    let shown: String =
        Mesh::check(text, "mesh.toml").unwrap_err().iter().map(|problem| problem.to_string() + "\n").collect();
    assert_eq!(shown, blocks("text")[0]);
}
