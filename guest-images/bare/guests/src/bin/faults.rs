//! Raises processor exceptions and prints each one's vector, error code and address.
//!
//! Every snippet is a function whose first instructions fault; the handler returns to its caller.

#![no_std]
#![no_main]

use core::arch::global_asm;

use bare::machine::exceptions::{self, Frame};
use bare::machine::serial::Line;
use bare::options::Options;

/// #PF: the one vector with an address.
const PAGE_FAULT: u64 = 14;

// The address that no loader maps has bit 46 set; the one that is no address has bit 63 alone.
global_asm!(
    "fault_divide: xor edx, edx",
    "mov eax, 1",
    "xor ecx, ecx",
    "div ecx",
    "ret",
    "fault_opcode: ud2",
    "ret",
    "fault_selector: mov eax, 0x1230",
    "mov ds, eax",
    "ret",
    "fault_address: movabs rax, 0x8000000000000000",
    "mov eax, [rax]",
    "ret",
    "fault_read: movabs rax, 0x400000001238",
    "mov eax, [rax]",
    "ret",
    "fault_write: movabs rax, 0x400000002468",
    "mov [rax], eax",
    "ret",
);

unsafe extern "C" {
    safe fn fault_divide();
    safe fn fault_opcode();
    safe fn fault_selector();
    safe fn fault_address();
    safe fn fault_read();
    safe fn fault_write();
}

bare::guest!(main);

fn main(options: Options) {
    exceptions::handle(on_exception);
    for _ in 0..options.number("count", 1) {
        fault_divide();
        fault_opcode();
        fault_selector();
        fault_address();
        fault_read();
        fault_write();
    }
    Line.text("faults end").end();
}

fn on_exception(frame: &mut Frame) {
    let line = Line
        .text("fault vector=")
        .decimal(frame.vector)
        .text(" error=")
        .hex(frame.error_code);
    if frame.vector == PAGE_FAULT {
        line.text(" address=")
            .hex(exceptions::fault_address())
            .end();
    } else {
        line.end();
    }
    // Return from the snippet: it has pushed nothing, so its caller's address is on top.
    // SAFETY: the stack below the frame is the interrupted code's, and that is asleep.
    frame.rip =
        unsafe { core::ptr::with_exposed_provenance::<u64>(frame.rsp as usize).read_volatile() };
    frame.rsp += 8;
}
