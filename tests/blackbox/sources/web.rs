//! Documents that a web server has.

use adit_tests::web::{Content, Web};

use super::*;

/// The document that `adit mesh show --signed` prints in a directory.
fn signed(desk: &Path) -> Result<Vec<u8>> {
    let output = Command::new(binary::path()?).arg("--dir").arg(desk).args(["mesh", "show", "--signed"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(output.stdout)
}

pub(super) fn a_document_on_a_web_server_is_fetched_when_it_changes_and_no_other_answer_is_taken() -> Result<()> {
    let nodes = ["alpha"];
    let (mesh, web) = (apart(&nodes)?, Web::start(Content::Status(404))?);
    let anna = mesh.publisher("anna")?;
    let desk = desk(&mesh, |_| Ok(String::new()))?;
    let publish = |remark: &str| -> Result<Vec<u8>> {
        publish_in(&desk, &anna, &text(&mesh, &nodes, remark), &[])?.success()?;
        signed(&desk)
    };
    let directory = mesh.directory("alpha");
    add(&directory, &web.source(&directory, "poll = \"1s\"\n")?)?;
    let alpha = mesh.start("alpha")?;
    let source = wait_for_source(&alpha, "failing", Some("answer"))?;
    ensure!(source["error"]["message"].as_str().is_some_and(|m| m.contains("404")), "{source}");

    let first = publish("first")?;
    web.show(Content::Tagged(first, "\"1\"".to_owned()));
    becomes_signed(&alpha, "https")?;
    let before = web.counts();
    eventually("the entity tag is sent", SOON, || {
        ensure!(web.counts().unchanged >= before.unchanged + 2, "{:?}", web.counts());
        Ok(())
    })?;
    ensure!(web.counts().whole == 1, "it was sent again: {:?}", web.counts());
    let second = publish("second")?;
    web.show(Content::Tagged(second.clone(), "\"2\"".to_owned()));
    came(&alpha, 2, "https")?;
    ensure!(web.counts().whole == 2, "{:?}", web.counts());

    let third = publish("third")?;
    let mut forged = Document::of(&third)?;
    // The header, the certificates and the signature stay as they are.
    forged.text[4] ^= 1;
    let forged = forged.bytes();
    let text = b"[mesh]\nname = \"lab\"\nversion = 9\n".to_vec();
    // Those that are judged stand between those that fail, after which the pauses grow.
    for (content, reason, told) in [
        (Content::Plain(text), "refused", "nobody has signed"),
        (Content::Tagged(forged, "\"3\"".to_owned()), "forged", ""),
        (Content::Claims(1 << 40), "too_large", "more than"),
        (Content::Plain(b"<html>".to_vec()), "malformed", ""),
        (Content::Endless(64 << 20), "too_large", "more than"),
        (Content::Redirect("https://127.0.0.1/elsewhere".to_owned()), "redirect", "https://127.0.0.1/elsewhere"),
    ] {
        let what = format!("{content:?}").chars().take(40).collect::<String>();
        web.show(content);
        let source = wait_for_source(&alpha, "failing", Some(reason)).with_context(|| what.clone())?;
        ensure!(source["error"]["message"].as_str().is_some_and(|m| m.contains(told)), "{what}: {source}");
        ensure!(alpha.status()?["mesh_version"] == 2, "{what}");
    }
    let peak = alpha.usage()?.resident;
    ensure!(peak < 200 << 20, "{peak} bytes are resident after endless answers");
    web.show(Content::Tagged(third, "\"4\"".to_owned()));
    came(&alpha, 3, "https")?;
    wait_for_source(&alpha, "in_touch", None)?;
    // An older one is refused, and named.
    web.show(Content::Tagged(second, "\"5\"".to_owned()));
    wait_for_source(&alpha, "failing", Some("older"))?;
    ensure!(alpha.status()?["mesh_version"] == 3);
    Ok(())
}
