//! The program: from the object in this binary to `DIR/prog`.

use std::{
    env, fs, io,
    io::Write,
    path::{Path, PathBuf},
    process,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::MapError,
    pin::PinError,
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use lb_common::maps::{self, DecapTuning, ProbeTuning, Tuning};

use super::{
    error::OpenError,
    explain::{self, system},
    pins::{self, Pins},
    specs::map_error,
    sys,
};
use crate::privileges::Loading;

/// The programs and tables, as lb-xdp built them.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-xdp.o"));

/// Lines of a verifier's log that an error shows.
const LOG_TAIL: usize = 20;
/// Files that the whole log may go to before that is given up.
const LOG_FILES: u32 = 100;

/// The program that is pinned as the one in force, if there is one.
pub(super) fn in_force(pins: &Pins) -> Option<Xdp> {
    pinned(&pins.program())
}

/// The program that is pinned there, if there is one.
pub(super) fn pinned(path: &Path) -> Option<Xdp> {
    Xdp::from_pin(path, XdpAttachType::Interface).ok()
}

/// Whether a program is the form for frames in several buffers.
pub(super) fn is_multi_buffer(program: &Xdp) -> bool {
    program.info().is_ok_and(|info| info.name_as_str() == Some(maps::PROGRAM_FRAGS))
}

/// Loads the program of `lb decap` with tables of its own, of these `sizes`; those in `kept` are taken from their pins.
pub(super) fn decap(
    tuning: DecapTuning,
    sizes: &[(&'static str, u32)],
    kept: &[(&'static str, PathBuf)],
) -> Result<Ebpf, OpenError> {
    let mut loader = EbpfLoader::new();
    loader.btf(None).override_global(maps::DECAP_TUNING, &tuning, true);
    for (name, entries) in sizes {
        loader.map_max_entries(name, *entries);
    }
    for (name, path) in kept {
        loader.map_pin_path(name, path);
    }
    let mut object = loader.load(OBJECT).map_err(explain_load)?;
    verify(&mut object, maps::DECAP_PROGRAM)?;
    Ok(object)
}

/// Loads the program of health probes over the targets that are pinned there.
pub(super) fn probe(tuning: &Tuning, probes: &ProbeTuning, targets: &Path, entries: u32) -> Result<Ebpf, OpenError> {
    let mut loader = EbpfLoader::new();
    loader.btf(None).override_global(maps::TUNING, tuning, true).override_global(maps::PROBE_TUNING, probes, true);
    loader.map_max_entries(maps::TARGETS, entries).map_pin_path(maps::TARGETS, targets);
    let mut object = loader.load(OBJECT).map_err(explain_load)?;
    verify(&mut object, maps::PROBE_PROGRAM)?;
    Ok(object)
}

/// The program of health probes in a loaded object.
pub(super) fn probe_in(object: &mut Ebpf) -> Result<&mut SchedClassifier, OpenError> {
    let name = maps::PROBE_PROGRAM;
    let program = object.program_mut(name).ok_or_else(|| lacks(name))?;
    program.try_into().map_err(|error| program_error(format!("use the program {name}"), error))
}

/// Pins a table of a loaded object.
pub(super) fn pin_table(object: &Ebpf, name: &str, path: &Path) -> Result<(), OpenError> {
    let map = object.map(name).ok_or_else(|| lacks(name))?;
    map.pin(path).map_err(|error| pin_error(path, error))
}

/// Pins a loaded program, in place of what is pinned there, and opens it by that pin.
pub(super) fn pin_program(object: &mut Ebpf, name: &str, path: &Path, next: &Path) -> Result<Xdp, OpenError> {
    pin_loaded(object, name, next)?;
    fs::rename(next, path).map_err(|source| system(format!("pin {}", path.display()), source))?;
    open_pinned(path)
}

/// Pins a loaded program, in place of what may have been left there.
pub(super) fn pin_loaded(object: &mut Ebpf, name: &str, path: &Path) -> Result<(), OpenError> {
    let program = object.program_mut(name).ok_or_else(|| lacks(name))?;
    pins::remove(path)?;
    program.pin(path).map_err(|error| pin_error(path, error))
}

pub(super) fn open_pinned(path: &Path) -> Result<Xdp, OpenError> {
    let opened = Xdp::from_pin(path, XdpAttachType::Interface);
    opened.map_err(|error| program_error(format!("open the program {}", path.display()), error))
}

/// Has the kernel verify a program.
pub(super) fn verify(object: &mut Ebpf, name: &str) -> Result<(), OpenError> {
    let program = object.program_mut(name).ok_or_else(|| lacks(name))?;
    // The verifier gives up with `EAGAIN` when a signal arrives, and SIGHUP may well do so twice.
    let blocked = sys::BlockedSignals::new();
    let loading = Loading::begin();
    let result = match program {
        Program::SchedClassifier(program) => program.load(),
        program => <&mut Xdp>::try_from(program).and_then(Xdp::load),
    };
    drop((loading, blocked));
    result.map_err(|error| refused(name, error))
}

/// Why the kernel refused a program.
fn refused(program: &str, error: ProgramError) -> OpenError {
    let what = format!("load the program {program}");
    let ProgramError::LoadError { io_error, verifier_log } = error else { return program_error(what, error) };
    let log = verifier_log.to_string();
    match system(what, io_error) {
        // Without capabilities the verifier is stricter and complains of the program; they are the cause.
        lacking @ OpenError::Permission { .. } if log.is_empty() || lacks_capabilities(&lacking) => lacking,
        OpenError::Permission { source, .. }
        | OpenError::System { source, .. }
        | OpenError::Unsupported { source, .. }
            if !log.is_empty() =>
        {
            let program = program.to_owned();
            OpenError::Verifier {
                kernel: explain::kernel_release(),
                tail: tail(&log),
                log: save(&program, &log),
                program,
                source,
            }
        }
        other => other,
    }
}

fn lacks_capabilities(error: &OpenError) -> bool {
    matches!(error, OpenError::Permission { missing, .. } if !missing.is_empty())
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

/// Writes a verifier's log to a new file in the folder for temporary files.
fn save(program: &str, log: &str) -> Option<PathBuf> {
    let named = |number| env::temp_dir().join(format!("{program}-verifier-{}-{number}.log", process::id()));
    for path in (0..LOG_FILES).map(named) {
        // A new file only: whoever may write to that folder must not choose what we overwrite.
        match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => return file.write_all(log.as_bytes()).ok().map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
    }
    None
}

/// Why an object could not be loaded.
pub(super) fn explain_load(error: EbpfError) -> OpenError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            system(format!("create the table {name}"), io_error)
        }
        EbpfError::MapError(error) => map_error("set up the tables", error),
        other => OpenError::Object { what: "read the BPF object in this binary".to_owned(), source: Box::new(other) },
    }
}

/// The object lacks something that this program knows of.
pub(super) fn lacks(name: &str) -> OpenError {
    let source = format!("the BPF object in this binary has no {name}");
    OpenError::Object { what: format!("load {name}"), source: source.into() }
}

/// Number of a loaded program.
pub(super) fn program_id(program: &Xdp) -> Result<u32, OpenError> {
    let info = program.info().map_err(|error| program_error("read the program's number".to_owned(), error))?;
    Ok(info.id())
}

/// A failure of a call on a program, explained.
pub(super) fn program_error(what: String, error: ProgramError) -> OpenError {
    match error {
        ProgramError::SyscallError(error) => system(what, error.io_error),
        ProgramError::IOError(error) => system(what, error),
        other => OpenError::Object { what, source: Box::new(other) },
    }
}

/// A failure to pin, explained.
pub(super) fn pin_error(path: &Path, error: PinError) -> OpenError {
    let what = format!("pin {}", path.display());
    match error {
        PinError::SyscallError(error) => system(what, error.io_error),
        other => OpenError::Object { what, source: Box::new(other) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_end_of_a_verifier_log_and_saves_the_whole() {
        let log = (0..100).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        let end = tail(&log);
        assert!(end.starts_with("line 80\n") && end.ends_with("line 99"), "{end}");
        assert_eq!(tail("only"), "only");
        let path = save("lb-test", &log).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), log);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn takes_a_refusal_with_a_log_for_the_verifiers() {
        let refusal = |code: i32, log: &str| {
            let io_error = io::Error::from_raw_os_error(code);
            refused(
                "lb-test",
                ProgramError::LoadError { io_error, verifier_log: aya_obj::VerifierLog::new(log.to_owned()) },
            )
        };
        let OpenError::Verifier { tail, log, .. } = refusal(libc::EINVAL, "R1 is bad\n") else {
            panic!("not the verifier's")
        };
        assert_eq!(tail, "R1 is bad");
        fs::remove_file(log.unwrap()).unwrap();
        assert!(matches!(refusal(libc::E2BIG, ""), OpenError::System { .. }));
    }
}
