//! Which functions of the object a program reaches.

use std::collections::{BTreeSet, VecDeque};

use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

const CALL: u8 = 0x85;
/// In the upper half of the byte of registers: the call goes to a function of the program, not to a helper.
const OWN_FUNCTION: u8 = 1;
const INSTRUCTION: usize = 8;

/// A function in the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    section: usize,
    begin: u64,
    end: u64,
    name: String,
}

/// Names of the functions that the program of that name reaches, its own among them.
pub(crate) fn reached(file: &File, program: &str) -> BTreeSet<String> {
    let functions = functions(file);
    let entry = functions.iter().find(|function| function.name == program).expect("the program");
    let mut found = BTreeSet::from([entry.clone()]);
    let mut queue = VecDeque::from([entry]);
    while let Some(function) = queue.pop_front() {
        for (section, address) in callees(file, function) {
            let holds = |other: &&Function| other.section == section && (other.begin..other.end).contains(&address);
            let callee = functions.iter().find(holds);
            let callee = callee.unwrap_or_else(|| panic!("no function at {section}:{address:#x}: {}", function.name));
            if found.insert(callee.clone()) {
                queue.push_back(callee);
            }
        }
    }
    found.into_iter().map(|function| function.name).collect()
}

/// Names of the functions that the program calls itself.
pub(crate) fn called_by(file: &File, program: &str) -> BTreeSet<String> {
    let functions = functions(file);
    let entry = functions.iter().find(|function| function.name == program).expect("the program");
    let name = |(section, address): (usize, u64)| {
        let holds = |other: &&Function| other.section == section && (other.begin..other.end).contains(&address);
        functions.iter().find(holds).map(|function| function.name.clone())
    };
    callees(file, entry).into_iter().filter_map(name).collect()
}

fn functions(file: &File) -> Vec<Function> {
    let code = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    code.filter_map(|symbol| {
        let (section, name) = (symbol.section_index()?.0, symbol.name().ok()?.to_owned());
        Some(Function { section, begin: symbol.address(), end: symbol.address() + symbol.size(), name })
    })
    .collect()
}

/// Sections and addresses that a function calls.
fn callees(file: &File, function: &Function) -> Vec<(usize, u64)> {
    let section = file.section_by_index(object::SectionIndex(function.section)).expect("a function's section");
    let data = section.data().expect("a section's bytes");
    let relocations: Vec<_> = section.relocations().collect();
    let call = |at: u64| {
        let word: [u8; 8] = data[usize::try_from(at).ok()?..][..8].try_into().ok()?;
        let [code, registers, _, _, number @ ..] = word;
        if code != CALL || registers >> 4 != OWN_FUNCTION {
            return None;
        }
        // Counted in instructions, from the one after the call or from the start of the symbol's section.
        let number = i64::from(i32::from_le_bytes(number)) + 1;
        let distance = number * i64::try_from(INSTRUCTION).ok()?;
        let relocation = relocations.iter().find(|(offset, _)| *offset == at);
        let Some((_, relocation)) = relocation else {
            return Some((function.section, at.checked_add_signed(distance)?));
        };
        let RelocationTarget::Symbol(index) = relocation.target() else { return None };
        let symbol = file.symbol_by_index(index).expect("a symbol");
        let section = symbol.section_index().unwrap_or_else(|| panic!("{:?} is not in the object", symbol.name()));
        let distance = if symbol.kind() == SymbolKind::Section { distance } else { 0 };
        Some((section.0, symbol.address().checked_add_signed(distance)?))
    };
    (function.begin..function.end).step_by(INSTRUCTION).filter_map(call).collect()
}
