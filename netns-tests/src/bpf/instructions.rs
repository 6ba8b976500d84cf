//! The instructions of a loaded program, as the kernel rewrote them.

use std::{
    collections::BTreeSet,
    ops::Range,
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::{Context as _, Result};

use super::{InfoByFd, OBJ_GET_INFO_BY_FD, call};

/// Register that points to the end of the stack.
const FRAME_POINTER: u8 = 10;
// Classes of instructions (the lower three bits of the code), and codes; kernel documentation, "BPF Instruction Set".
const CLASS_MASK: u8 = 0x07;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const CALL: u8 = 0x85;
const MOV_REGISTER_64: u8 = 0xbf;
const ADD_NUMBER_64: u8 = 0x07;
/// Source "register" of a call that goes to a function of the program, not to a helper.
const OWN_FUNCTION: u8 = 1;
/// Functions' shares of the stack are multiples of this (the kernel's `round_up_stack_depth`, for compiled programs).
const STACK_UNIT: u32 = 16;

/// First fields of `struct bpf_prog_info`; the kernel fills as many bytes as are asked for.
#[repr(C)]
#[derive(Default)]
struct RawProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    translated_bytes: u32,
    jited: u64,
    translated: u64,
}

/// `struct bpf_insn`: code, registers, offset, number.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    number: i32,
}

impl From<u64> for Instruction {
    fn from(word: u64) -> Self {
        let [code, registers, offset_low, offset_high, number @ ..] = word.to_le_bytes();
        Self {
            code,
            destination: registers & 0xf,
            source: registers >> 4,
            offset: i16::from_le_bytes([offset_low, offset_high]),
            number: i32::from_le_bytes(number),
        }
    }
}

/// A program's instructions.
#[derive(Debug)]
pub struct Instructions(Vec<Instruction>);

impl Instructions {
    /// Reads them from the kernel.
    ///
    /// # Errors
    /// When this is no program, or the kernel does not show it to this process.
    pub fn read(program: impl AsFd) -> Result<Self> {
        let program = program.as_fd();
        let ask = |info: &mut RawProgramInfo| {
            let ask = InfoByFd {
                bpf_fd: program.as_raw_fd().cast_unsigned(),
                info_len: u32::try_from(size_of::<RawProgramInfo>())?,
                info: std::ptr::from_mut(info) as u64,
            };
            call(OBJ_GET_INFO_BY_FD, &ask).context("cannot ask about a program")
        };
        let mut size = RawProgramInfo::default();
        ask(&mut size)?;
        let mut words = vec![0_u64; size.translated_bytes as usize / 8];
        let mut info = RawProgramInfo {
            translated_bytes: size.translated_bytes,
            translated: words.as_mut_ptr() as u64,
            ..RawProgramInfo::default()
        };
        ask(&mut info)?;
        Ok(Self(words.into_iter().map(Instruction::from).collect()))
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of stack that the deepest chain of calls uses together, as the verifier adds them up.
    pub fn stack(&self) -> u32 {
        let functions = self.functions();
        self.depth(&functions, 0)
    }

    /// Where each function lies; the program itself is the first.
    fn functions(&self) -> Vec<Range<usize>> {
        let called = (0..self.0.len()).filter_map(|at| self.callee(at));
        let starts: BTreeSet<usize> = called.chain([0, self.0.len()]).collect();
        let starts: Vec<usize> = starts.into_iter().collect();
        starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// Where the function begins that is called at this place.
    fn callee(&self, at: usize) -> Option<usize> {
        let Instruction { code, source, offset, .. } = self.0[at];
        (code == CALL && source == OWN_FUNCTION).then(|| at.saturating_add_signed(offset.into()) + 1)
    }

    /// Stack of a function with the deepest of those that it calls. There is no recursion in BPF.
    fn depth(&self, functions: &[Range<usize>], number: usize) -> u32 {
        let function = functions[number].clone();
        let own = reach(&self.0[function.clone()]).next_multiple_of(STACK_UNIT);
        let starts: BTreeSet<usize> = function.filter_map(|at| self.callee(at)).collect();
        let called = functions.iter().enumerate().filter(|(_, callee)| starts.contains(&callee.start));
        own + called.map(|(callee, _)| self.depth(functions, callee)).max().unwrap_or(0)
    }
}

/// Bytes of stack that a function uses: the lowest place that is reached from the frame pointer, directly or by a register
/// that was set from it.
fn reach(function: &[Instruction]) -> u32 {
    let reach = function.windows(2).map(|pair| match pair {
        [one, next] => one.reach().min(one.reach_with(next)),
        _ => 0,
    });
    reach.min().unwrap_or(0).unsigned_abs()
}

impl Instruction {
    /// Offset from the frame pointer of a load or store; 0 for others.
    fn reach(self) -> i32 {
        let base = match self.code & CLASS_MASK {
            LDX => self.source,
            ST | STX => self.destination,
            _ => return 0,
        };
        if base == FRAME_POINTER { i32::from(self.offset) } else { 0 }
    }

    /// The offset that `mov r, fp` and the following `add r, number` make.
    fn reach_with(self, next: &Self) -> i32 {
        let copies = self.code == MOV_REGISTER_64 && self.source == FRAME_POINTER;
        let adds = next.code == ADD_NUMBER_64 && next.destination == self.destination;
        if copies && adds { next.number } else { 0 }
    }
}
