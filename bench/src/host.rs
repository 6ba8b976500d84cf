//! What criterion measured on the host, in the form of all benchmarks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use crate::record::{Better, Row};

/// The folder of a benchmark's latest run, in the benchmark's own.
const LATEST: &str = "new";

/// Which benchmark it is, as criterion's `benchmark.json` has it.
#[derive(Deserialize)]
struct Named {
    group_id: String,
    function_id: String,
}

/// What was timed, as `sample.json` has it: so many turns of each sample, and the ns that they took together.
#[derive(Deserialize)]
struct Timed {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// A row for each benchmark that criterion left in its folder.
///
/// # Errors
/// If there is none, or a file has another form.
pub fn rows(folder: &Path) -> Result<Vec<Row>, anyhow::Error> {
    let mut found = Vec::new();
    find(folder, &mut found)?;
    ensure!(!found.is_empty(), "criterion left nothing in {}", folder.display());
    found.sort();
    found.iter().map(|folder| row(folder)).collect()
}

/// The folders of latest runs.
fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), anyhow::Error> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
            if path.ends_with(LATEST) && path.join("sample.json").exists() {
                found.push(path);
            }
        }
    }
    Ok(())
}

fn row(folder: &Path) -> Result<Row, anyhow::Error> {
    let Named { group_id, function_id } = read(&folder.join("benchmark.json"))?;
    let Timed { iters, times } = read(&folder.join("sample.json"))?;
    let samples = times.iter().zip(&iters).map(|(time, turns)| time / turns / 1e3).collect();
    let what = [("group", group_id.as_str().into()), ("figure", function_id.as_str().into())];
    Ok(Row::new(what, "us", Better::Less, samples))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, anyhow::Error> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what criterion 0.8 writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::VALUE;

    #[test]
    fn a_row_has_the_time_of_one_turn_in_each_sample_of_the_latest_run() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let named = r#"{"group_id":"packet","function_id":"to no VIP","value_str":null,"throughput":{"Elements":1},"full_id":"packet/to no VIP","directory_name":"packet/to no VIP","title":"packet/to no VIP"}"#;
        assert!(rows(folder.path()).unwrap_err().to_string().contains("left nothing"));
        for run in ["base", LATEST] {
            write(&format!("packet/to no VIP/{run}/benchmark.json"), named);
        }
        write("packet/to no VIP/base/sample.json", r#"{"sampling_mode":"Linear","iters":[1.0],"times":[9e9]}"#);
        let latest = r#"{"sampling_mode":"Linear","iters":[10.0,20.0,30.0],"times":[30000.0,40000.0,120000.0]}"#;
        write("packet/to no VIP/new/sample.json", latest);
        let [row] = &rows(folder.path()).unwrap()[..] else { panic!("one benchmark") };
        assert_eq!((row.text("group"), row.text("figure")), (Some("packet"), Some("to no VIP")));
        assert_eq!((row.samples[VALUE].as_slice(), row.value()), ([3.0, 2.0, 4.0].as_slice(), 3.0));
        write("packet/to no VIP/new/sample.json", "{}");
        let error = rows(folder.path()).unwrap_err().to_string();
        assert!(error.contains("new/sample.json is not what criterion"), "{error}");
    }
}
