//! Single accesses, and what the processor says of them.

use core::arch::global_asm;

use bare::machine::catch::{self, Outcome};

/// No exception.
pub const DONE: u64 = 0xD0;
/// An exception that is no page fault: this, and its vector.
const OTHER: u64 = 0xE00;
const PAGE_FAULT: u64 = 14;
/// How code at privilege level 3 says that it is done: UD2.
const UNDEFINED: u64 = 6;

// Error codes of page faults (Intel SDM 3A §4.7).
/// There is a page, but the access is not allowed; else there is none.
pub const PROTECTION: u64 = 1 << 0;
/// A store.
pub const WRITE: u64 = 1 << 1;
/// From privilege level 3.
pub const USER: u64 = 1 << 2;
/// An entry has a reserved bit set.
pub const RESERVED: u64 = 1 << 3;
/// An instruction fetch.
pub const FETCH: u64 = 1 << 4;

/// What became of an access.
#[derive(Clone, Copy)]
pub struct Seen {
    /// [`DONE`], or the page fault's error code.
    pub error: u64,
    /// CR2, after a page fault.
    pub address: u64,
    /// What was read.
    pub value: u64,
    /// Saved instruction pointer, after an exception.
    pub rip: u64,
}

global_asm!(
    "access_load:",
    "mov rax, [rdi]",
    "ret",
    "access_store:",
    "mov rax, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov [rax], rcx",
    "ret",
    "access_exchange:",
    "mov rdx, [rdi]",
    "mov rcx, [rdi + 8]",
    "xor eax, eax",
    "lock cmpxchg [rdx], rcx",
    "ret",
    "access_load_open:",
    "stac",
    "mov rax, [rdi]",
    "clac",
    "ret",
    "access_call:",
    "jmp rdi",
    // Copied into a page of level 3.
    ".balign 8",
    "access_user_code:",
    "mov rax, [rdi]",
    "ud2",
    ".balign 8",
    "mov [rdi], rdi",
    "ud2",
    ".balign 8",
    "jmp rdi",
    ".balign 8",
    // A word each: what is called where fetches are tried: returns 7 to level 0, and ends at level 3.
    "access_function:",
    "mov eax, 7",
    "ret",
    ".byte 0x90, 0x90",
    "access_user_function:",
    "mov eax, 7",
    "ud2",
    ".byte 0x90",
);

unsafe extern "C" {
    fn access_load();
    fn access_load_open();
    fn access_store();
    fn access_exchange();
    fn access_call();
    static access_user_code: [u64; 3];
    static access_function: u64;
    static access_user_function: u64;
}

/// Where in the page of [`user_code`] each access's code begins.
pub const USER_LOAD: u64 = 0;
/// See [`USER_LOAD`].
pub const USER_STORE: u64 = 8;
/// See [`USER_LOAD`].
pub const USER_JUMP: u64 = 16;

/// Three words of code for level 3.
pub fn user_code() -> [u64; 3] {
    // SAFETY: constant code.
    unsafe { access_user_code }
}

/// A word of code that returns 7.
pub fn function() -> u64 {
    // SAFETY: constant code.
    unsafe { access_function }
}

/// A word of code that ends at level 3 with RAX 7.
pub fn user_function() -> u64 {
    // SAFETY: constant code.
    unsafe { access_user_function }
}

/// Reads a word.
pub fn load(address: u64) -> Seen {
    run(access_load, address)
}

/// Reads a word with the flag AC set.
pub fn load_open(address: u64) -> Seen {
    run(access_load_open, address)
}

/// Writes a word.
pub fn store(address: u64, value: u64) -> Seen {
    run(access_store, (&raw const *&[address, value]) as u64)
}

/// Writes a word if there is 0 now.
pub fn exchange(address: u64, value: u64) -> Seen {
    run(access_exchange, (&raw const *&[address, value]) as u64)
}

/// Calls the code at `address`.
pub fn call(address: u64) -> Seen {
    run(access_call, address)
}

/// The same by level 3, with the code at `code`.
pub fn by_user(code: u64, address: u64) -> Seen {
    // SAFETY: the code of `user_code`, which ends by an exception.
    let seen = seen(unsafe { catch::run_user(code, 0, address) });
    if seen.error == OTHER + UNDEFINED {
        return Seen {
            error: DONE,
            ..seen
        };
    }
    seen
}

fn run(code: unsafe extern "C" fn(), argument: u64) -> Seen {
    // SAFETY: the code above reads and writes where the caller has mapped what nobody else uses.
    seen(unsafe { catch::run(code as *const () as u64, argument) })
}

fn seen(outcome: Outcome) -> Seen {
    let Some(caught) = outcome.caught else {
        return Seen {
            error: DONE,
            address: 0,
            value: outcome.result,
            rip: 0,
        };
    };
    let is_page_fault = caught.vector == PAGE_FAULT;
    Seen {
        error: if is_page_fault {
            caught.error_code
        } else {
            OTHER + caught.vector
        },
        address: if is_page_fault { caught.address } else { 0 },
        value: caught.rax,
        rip: caught.rip,
    }
}
