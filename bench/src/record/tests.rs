use serde_json::json;

use super::*;

fn row(samples: Vec<f64>) -> Row {
    Row::new([("kind", "udp".into()), ("flows", 7_u32.into())], "ns", Better::Less, samples)
}

fn record(rows: Vec<Row>) -> Record {
    let mut record = Record::begin("trial", json!({ "rounds": 3 })).unwrap();
    record.about.machine = Machine { cpu_model: "M \"1\"".into(), cpus: 2, kernel: "6.18".into(), load: "0.5".into() };
    record.rows = rows;
    record
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trial.json");
    let first = record(vec![row(vec![3.0, 1.0, 2.0]).with(REFERENCE, vec![1.0; 3]), row(vec![]).limited(Some(5.0))]);
    first.write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 5, "a row a line:\n{text}");
    assert_eq!(Record::read(&path).unwrap(), first);
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["rows"][0]["what"], json!({ "kind": "udp", "flows": 7 }));
    assert_eq!(read["rows"][0]["samples"], json!({ "value": [3.0, 1.0, 2.0], "reference": [1.0, 1.0, 1.0] }));
    assert_eq!(read["rows"][0]["summary"], json!({ "value": 2.0, "least": 1.0, "most": 3.0 }));
    for key in ["benchmark", "time", "commit", "machine", "method"] {
        assert!(!read["about"][key].is_null(), "{key}");
    }
}

#[test]
fn a_file_of_another_form_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.json");
    fs::write(&path, "{\"about\":{\"started\":1},\"rows\":[]}").unwrap();
    let error = Record::read(&path).unwrap_err();
    assert!(error.to_string().contains("old.json") && error.to_string().contains("--json"), "{error:#}");
}

#[test]
fn rows_are_found_by_what_they_are_of() {
    let record = record(vec![row(vec![1.0])]);
    assert_eq!(record.row(&row(vec![9.0]).what), Some(&record.rows[0]));
    let other = Row::new([("kind", "udp".into())], "ns", Better::Less, vec![]);
    assert_eq!(record.row(&other.what), None);
    assert_eq!((record.rows[0].text("kind"), record.rows[0].number("flows")), (Some("udp"), Some(7)));
    assert_eq!((record.rows[0].text("flows"), record.rows[0].number("none")), (None, None));
}

#[test]
fn a_limit_is_kept_on_its_better_side() {
    let limited = |better, limit| Row { better, ..row(vec![4.0]) }.limited(limit).is_kept();
    assert!(limited(Better::Less, None) && limited(Better::Less, Some(4.1)) && limited(Better::More, Some(3.9)));
    assert!(!limited(Better::Less, Some(4.0)) && !limited(Better::More, Some(4.0)));
    assert!(!row(vec![]).limited(Some(1.0)).is_kept(), "what was not measured keeps nothing");
}

#[test]
fn a_sample_that_is_no_number_keeps_its_place_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trial.json");
    let gap = row(vec![1.0, f64::INFINITY, 3.0]).with("beside", vec![f64::NAN, 2.0, 3.0]).limited(Some(2.0));
    record(vec![gap, row(vec![f64::INFINITY]).limited(Some(2.0))]).write(&path).unwrap();
    let rows = Record::read(&path).unwrap().rows;
    assert!(rows[0].samples[VALUE][1].is_nan() && rows[0].samples["beside"][0].is_nan(), "{:?}", rows[0]);
    assert_eq!((rows[0].samples[VALUE][2], rows[0].samples["beside"][1]), (3.0, 2.0));
    assert!(rows[1].value().is_nan() && !rows[1].is_kept(), "{:?}", rows[1]);
}
