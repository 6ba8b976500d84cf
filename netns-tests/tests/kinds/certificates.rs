//! Certificates of the test's own authority, and of another one, as files.

use std::{fs, path::Path};

use anyhow::Result;
use certificates::Authority;

/// Whom the server's certificate is for.
pub(crate) const NAME: &str = "www.lab.example";

/// Writes `authority.pem`, and certificates `good`, `stranger`, `misnamed` and `expired`, each with its key, as `NAME.pem`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let (known, unknown) = (Authority::new()?, Authority::new()?);
    fs::write(folder.join("authority.pem"), known.pem())?;
    for (file, by, name, until) in [
        ("good", &known, NAME, 2100),
        ("stranger", &unknown, NAME, 2100),
        ("misnamed", &known, "other.lab.example", 2100),
        ("expired", &known, NAME, 2020),
    ] {
        fs::write(folder.join(format!("{file}.pem")), by.sign_for(&[name], 2010..=until)?.pem())?;
    }
    Ok(())
}
