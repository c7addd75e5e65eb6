//! For tests: runs an instruction on the real processor, from a given state of its registers to another.
//!
//! In: the bytes of an instruction that does not branch or fault, and [`Registers`]. Out: the registers after it. Its memory operands must lie in
//! [`data`]. The addresses are below 4 GB, so that a guest's memory can have the same.

use std::{
    arch::asm,
    sync::{Mutex, MutexGuard},
};

use iced_x86::code_asm::{self, CodeAssembler, ptr, qword_ptr};

/// Where the region is mapped, in the host and, by tests, in the guest.
pub(crate) const BASE: u64 = 0x0400_0000;
/// Code, then registers, then two pages for memory operands.
const BYTES: usize = 4 * 4096;
const REGISTERS: u64 = BASE + 0x1000;
/// Where memory operands can be.
pub(crate) const DATA: u64 = BASE + 0x2000;
/// How many bytes there are.
pub(crate) const DATA_BYTES: usize = 0x2000;

/// The registers before or after an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct Registers {
    /// FXSAVE's image: x87, MMX, SSE, MXCSR.
    pub(crate) fxsave: [u8; 512],
    /// By the hardware's numbers. RSP is not loaded.
    pub(crate) general: [u64; 16],
    pub(crate) rflags: u64,
}

impl Registers {
    /// XMM register `index`.
    pub(crate) fn xmm(&self, index: usize) -> u128 {
        let at = 160 + index * 16;
        u128::from_le_bytes(self.fxsave[at..at + 16].try_into().expect("16 bytes"))
    }

    /// Sets XMM register `index`.
    pub(crate) fn set_xmm(&mut self, index: usize, value: u128) {
        let at = 160 + index * 16;
        self.fxsave[at..at + 16].copy_from_slice(&value.to_le_bytes());
    }

    /// MXCSR.
    pub(crate) fn mxcsr(&self) -> u32 {
        u32::from_le_bytes(self.fxsave[24..28].try_into().expect("4 bytes"))
    }

    /// Sets MXCSR.
    pub(crate) fn set_mxcsr(&mut self, value: u32) {
        self.fxsave[24..28].copy_from_slice(&value.to_le_bytes());
    }
}

/// The one region, and the right to use it.
pub(crate) struct Native {
    _exclusive: MutexGuard<'static, bool>,
}

static MAPPED: Mutex<bool> = Mutex::new(false);

impl Native {
    /// Waits for other tests to be done with the region.
    pub(crate) fn new() -> Self {
        let mut mapped = MAPPED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*mapped {
            map();
            *mapped = true;
        }
        Self { _exclusive: mapped }
    }

    /// The memory at [`DATA`].
    pub(crate) fn data(&mut self) -> &mut [u8; DATA_BYTES] {
        // SAFETY: mapped for ever, and the lock makes this the only reference.
        unsafe { &mut *(DATA as *mut [u8; DATA_BYTES]) }
    }

    /// Executes the instruction made of `bytes`.
    pub(crate) fn execute(&mut self, bytes: &[u8], registers: &mut Registers) {
        let code = surrounded(bytes).expect("the code around an instruction can be assembled");
        assert!(code.len() <= 0x1000);
        // SAFETY: the code is written to a mapped page and makes a function that keeps what the ABI wants kept: it saves all
        // registers that an instruction of the tests could change.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), BASE as *mut u8, code.len());
            let place = REGISTERS as *mut Registers;
            place.write(registers.clone());
            let function: extern "sysv64" fn() =
                std::mem::transmute::<u64, extern "sysv64" fn()>(BASE);
            function();
            *registers = place.read();
        }
    }
}

/// Maps the region, readable, writable and executable, where it is wanted.
fn map() {
    const MMAP: u64 = 9;
    const READ_WRITE_EXECUTE: u64 = 7;
    /// MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE.
    const FLAGS: u64 = 0x2 | 0x20 | 0x10_0000;
    let address: u64;
    // SAFETY: a mapping where nothing was.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") MMAP => address,
            in("rdi") BASE,
            in("rsi") BYTES,
            in("rdx") READ_WRITE_EXECUTE,
            in("r10") FLAGS,
            in("r8") -1_i64,
            in("r9") 0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    assert_eq!(address, BASE, "the tests' memory region is taken");
}

/// A function that loads all registers from [`REGISTERS`], executes `bytes`, and stores them there.
fn surrounded(bytes: &[u8]) -> Result<Vec<u8>, iced_x86::IcedError> {
    use code_asm::registers::*;
    let general = |index: u64| REGISTERS + 512 + index * 8;
    let names = [
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
    ];
    let (host_image, host_stack) = (REGISTERS + 0x800, REGISTERS + 0xF00);
    let mut a = CodeAssembler::new(64)?;
    for name in [rbx, rbp, r12, r13, r14, r15] {
        a.push(name)?;
    }
    a.mov(qword_ptr(host_stack), rsp)?;
    a.fxsave64(ptr(host_image))?;
    a.fxrstor64(ptr(REGISTERS))?;
    a.push(qword_ptr(general(16)))?;
    a.popfq()?;
    for (index, name) in names.into_iter().enumerate() {
        if name != rsp {
            a.mov(name, qword_ptr(general(index as u64)))?;
        }
    }
    a.db(bytes)?;
    for (index, name) in names.into_iter().enumerate() {
        if name != rsp {
            a.mov(qword_ptr(general(index as u64)), name)?;
        }
    }
    a.mov(rsp, qword_ptr(host_stack))?;
    a.pushfq()?;
    a.pop(qword_ptr(general(16)))?;
    a.cld()?;
    a.fxsave64(ptr(REGISTERS))?;
    a.fxrstor64(ptr(host_image))?;
    for name in [r15, r14, r13, r12, rbp, rbx] {
        a.pop(name)?;
    }
    a.ret()?;
    a.assemble(BASE)
}
