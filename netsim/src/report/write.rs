//! The files of a record.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::{Line, Record};
use crate::Error;

impl Record {
    /// Writes `result.json`, `timeline.html` and for each node `NODE.log` into a directory, which is made if it is not
    /// there. Files of these names are replaced.
    ///
    /// # Errors
    /// When one of them cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<(), Error> {
        let make = Error::kernel(format!("make the directory {}", directory.display()));
        fs::create_dir_all(directory).map_err(make)?;
        let put = |name: &str, write: &dyn Fn(&mut dyn io::Write) -> io::Result<()>| {
            let path = directory.join(name);
            let file = fs::File::create(&path).map(BufWriter::new);
            let written = file.and_then(|mut file| write(&mut file).and_then(|()| file.flush()));
            written.map_err(Error::kernel(format!("write {}", path.display())))
        };
        put("result.json", &|file| file.write_all(self.result_json().as_bytes()))?;
        put("timeline.html", &|file| file.write_all(self.timeline_html().as_bytes()))?;
        for (node, name) in self.nodes.iter().zip(file_names(&self.nodes)) {
            put(&format!("{name}.log"), &|file| self.write_log(node, file))?;
        }
        Ok(())
    }

    fn write_log(&self, node: &str, file: &mut dyn io::Write) -> io::Result<()> {
        let left_out = self.log.left_out(node);
        if left_out > 0 {
            writeln!(file, "({left_out} lines before these were not kept)")?;
        }
        self.log.of(node).try_for_each(|line| file.write_all(written(line).as_bytes()))
    }
}

/// `  12.345678 program stderr: text`
fn written(line: &Line) -> String {
    let mut out = format!("{:12.6} ", line.at.as_secs_f64());
    if !line.program.is_empty() {
        out.push_str(&line.program);
        out.push(' ');
    }
    out.push_str(line.stream.name());
    out.push_str(": ");
    for character in line.text.chars() {
        // Neither the reader's terminal nor whoever counts lines is to be led astray.
        if character.is_control() && character != '\t' {
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out.push('\n');
    out
}

/// Names that lie in the directory, whatever the nodes are called; no two alike.
pub(super) fn file_names(nodes: &[String]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut names = Vec::with_capacity(nodes.len());
    for node in nodes {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut name: String = node.chars().map(|c| if fits(c) { c } else { '_' }).take(60).collect();
        if name.is_empty() || name.starts_with('.') {
            name.insert(0, '_');
        }
        let (plain, mut number) = (name.clone(), 1);
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{plain}-{number}");
        }
        names.push(name);
    }
    names
}
