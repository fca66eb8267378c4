//! What a person sees: whole bad files and the text shown for them, side by side in `tests/shown/`.
//! `BLESS=1 cargo test -p mesh-config --test shown` writes the expected texts anew, to be reviewed.

use std::path::Path;

use mesh_config::load;

#[test]
fn what_is_shown_for_bad_files_is_what_was_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shown");
    let mut seen = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        seen += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let problems = match load(path) {
            Ok(checked) => checked.warnings,
            Err(problems) => problems,
        };
        let mut shown = String::new();
        for mut problem in problems {
            problem.file = name.to_owned();
            shown.push_str(&problem.render(false));
            shown.push_str("\n\n");
        }
        let expected = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &shown).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{name}: shown now:\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 5, "the folder has its files");
}
