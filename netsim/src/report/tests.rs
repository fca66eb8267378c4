use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn sample() -> Record {
    let mut record = Record::new("split", 7, ["alpha", "beta"]);
    record.wall = seconds(12.5);
    record.checks.push(Check {
        at: seconds(3.2),
        name: "alpha reaches beta".into(),
        ok: false,
        detail: "timed out".into(),
    });
    record.faults.push(Fault {
        at: seconds(1.0),
        until: Some(seconds(3.0)),
        kind: "partition".into(),
        on: vec!["alpha".into(), "beta".into()],
    });
    record
}

#[test]
fn the_result_has_the_names_and_types_that_were_promised() {
    let expected = r#"{
  "scenario": "split",
  "seed": 7,
  "backend": "tap",
  "verdict": "faithful",
  "wall_seconds": 12.5,
  "nodes": [
    "alpha",
    "beta"
  ],
  "checks": [
    {
      "at": 3.2,
      "name": "alpha reaches beta",
      "ok": false,
      "detail": "timed out"
    }
  ],
  "faults": [
    {
      "at": 1.0,
      "kind": "partition",
      "on": [
        "alpha",
        "beta"
      ]
    }
  ]
}
"#;
    assert_eq!(sample().result_json(), expected);
}

#[test]
fn a_record_is_over_when_its_last_event_is() {
    let mut record = sample();
    assert_eq!(record.end(), seconds(12.5));
    record.log.push(Line::new(seconds(13.0), "beta", "server", Stream::Stdout, "late"));
    assert_eq!(record.end(), seconds(13.0));
}

#[test]
fn a_talkative_node_keeps_its_last_lines_and_those_of_others() {
    let mut log = Log::default();
    log.push(Line::new(seconds(0.0), "quiet", "p", Stream::Stdout, "x".repeat(9000)));
    for number in 0..100_010 {
        log.push(Line::new(seconds(0.0), "talkative", "p", Stream::Stdout, number.to_string()));
    }
    let first = log.of("talkative").next().map(|line| &*line.text);
    assert_eq!((log.of("talkative").len(), log.left_out("talkative"), first), (100_000, 10, Some("10")));
    assert_eq!(log.of("quiet").next().map(|line| line.text.chars().count()), Some(8193));
    for _ in 0..2100 {
        log.push(Line::new(seconds(0.0), "wordy", "p", Stream::Stdout, "ä".repeat(4096)));
    }
    assert!(log.of("wordy").map(|line| line.text.len()).sum::<usize>() <= 16 << 20);
    assert_eq!(log.of("wordy").len() as u64 + log.left_out("wordy"), 2100);
}

#[test]
fn a_long_curve_keeps_its_shape_in_a_bounded_number_of_samples() {
    let mut curve = Curve::new("wan", "alpha", "beta");
    for number in 0..1_000_000_u64 {
        curve.push(Sample { at: seconds(number as f64), bytes: number * 10, packets: number, lost: 0 });
    }
    let samples = curve.samples();
    assert!((1000..2048).contains(&samples.len()), "{}", samples.len());
    assert!(samples.windows(2).all(|two| two[1].packets - two[0].packets == samples[1].packets));
    assert!(samples[samples.len() - 1].packets > 998_000);
}

#[test]
fn files_lie_in_the_directory_whatever_the_nodes_are_called() {
    let nodes = ["alpha", "../../etc/x", "..", "", "a/b", "a:b", "a\0b", "größe"].map(String::from);
    let names = write::file_names(&nodes);
    assert_eq!(names, ["alpha", "_.._.._etc_x", "_..", "_", "a_b", "a_b-2", "a_b-3", "größe"]);
}

#[test]
fn a_page_holds_the_last_lines_that_a_browser_can_show_and_says_how_many_are_missing() {
    let mut record = sample();
    for number in 0..20_000 {
        record.log.push(Line::new(seconds(0.0), "alpha", "p", Stream::Stdout, format!("line {number};")));
    }
    let page = record.timeline_html();
    assert!(page.contains("line 19999;") && page.contains("line 5000;") && !page.contains("line 4999;"));
    assert!(page.contains("\"left_out\":5000"));
}

#[test]
fn a_log_file_is_one_line_for_each_line_whatever_is_in_it() {
    let folder = std::env::temp_dir().join(format!("netsim-record-{}", std::process::id()));
    let mut record = sample();
    record.log.push(Line::new(seconds(1.5), "beta", "server", Stream::Stderr, "a\nb\u{1b}[2J\r"));
    record.log.push(Line::new(seconds(2.0), "beta", "", Stream::Simulator, "server ends"));
    record.write_to(&folder).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (alpha, beta, result) = (read("alpha.log"), read("beta.log"), read("result.json"));
    assert!(read("timeline.html").ends_with("</html>\n"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((alpha.as_str(), result), ("", record.result_json()));
    let expected = ["    1.500000 server stderr: a\\nb\\u{1b}[2J\\r\n", "    2.000000 simulator: server ends\n"];
    assert_eq!(beta, expected.concat());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let error = sample().write_to(std::path::Path::new("/proc/nothing/here")).unwrap_err();
    assert_eq!(error.to_string(), "make the directory /proc/nothing/here");
}
