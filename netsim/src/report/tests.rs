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
