//! The software CPU, in two ways.
//!
//! [`SoftCpu::run`] gives it a case as a state, and handlers that halt: it depends on no instruction but the case's. [`SoftCpu::run_batch`] lets
//! it run the very program that the real processor runs, with warm caches and all.

use x86_engine::{Cpu, DescriptorTable, Exit, Goal, Ram, Reply, Segment, State, Stop, X87};

use crate::{
    case::{CODE_LIMIT, Case, Float, OUTPUT_BYTES, Outcome},
    layout::{
        self, CODE, CODE_PAGES, CONTROL, CR0, CR4, DATA_BYTES, DATA_PAGES, EFER, FS_BASE, GS_BASE,
        HLT, INPUTS, MEMORY_BYTES, OUTPUTS, REGISTERS, RFLAGS, STACK_TOP, TASK, USER_CODE,
        USER_DATA,
    },
    program::{self, Program},
};

/// Instructions after which a case is given up.
const LIMIT: u64 = 100_000;
/// Bits 11 to 13 of the x87 status word: TOP.
const TOP_SHIFT: u16 = 11;

/// How the software CPU failed to end a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It asked the outside, or shut down.
    Exit(Exit),
    /// It ran on and on.
    Endless,
    /// It halted, but not in a handler: RIP.
    Astray(u64),
}

/// A software CPU with the same memory.
pub struct SoftCpu {
    cpu: Cpu,
    program: Program,
    base: State,
}

impl SoftCpu {
    /// A processor with the test program in its memory.
    #[must_use]
    pub fn new(program: Program) -> Self {
        let mut cpu = Cpu::new(Ram::owned(MEMORY_BYTES));
        for piece in layout::pieces().iter().chain(&program.pieces) {
            write(&mut cpu, piece.at, &piece.bytes);
        }
        Self {
            cpu,
            program,
            base: user_mode(),
        }
    }

    /// Runs one case, in as few blocks as possible.
    ///
    /// # Errors
    /// If it ends otherwise than by an exception.
    pub fn run(&mut self, case: &Case) -> Result<Outcome, Left> {
        self.start(case);
        let stop = self.cpu.run(Goal::Instructions(LIMIT));
        self.ended(case, stop)
    }

    /// Runs one case instruction by instruction.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn step(&mut self, case: &Case) -> Result<Outcome, Left> {
        self.start(case);
        let mut stop = Stop::Reached;
        for instructions in 1..=LIMIT {
            stop = self.cpu.run(Goal::Instructions(instructions));
            if stop != Stop::Reached {
                break;
            }
        }
        self.ended(case, stop)
    }

    /// Instructions that the last case took, with its exception and the HLT in its handler.
    #[must_use]
    pub fn retired(&self) -> u64 {
        self.cpu.retired()
    }

    fn start(&mut self, case: &Case) {
        write(&mut self.cpu, DATA_PAGES, &case.memory());
        write(&mut self.cpu, code_page(case), &case.code_block());
        let mut state = self.base.clone();
        (state.general, state.rip, state.rflags) =
            (case.general, case.code_at, case.rflags | RFLAGS);
        set_float(&mut state, &case.float);
        self.cpu
            .restore(&state)
            .expect("the state is of this version");
    }

    fn ended(&mut self, case: &Case, stop: Stop) -> Result<Outcome, Left> {
        write(&mut self.cpu, code_page(case), &[HLT; CODE_LIMIT]);
        let exit = match stop {
            Stop::Reached => return Err(Left::Endless),
            Stop::Exit(exit) => exit,
        };
        let state = self.cpu.save();
        let vector = layout::halted_vector(state.rip);
        match (exit, vector) {
            (Exit::Halt, Some(vector)) => Ok(self.outcome(&state, vector)),
            (Exit::Halt, None) => Err(Left::Astray(state.rip)),
            _ => Err(Left::Exit(exit)),
        }
    }

    fn outcome(&self, state: &State, vector: u8) -> Outcome {
        let mut frame = [0; 48];
        self.cpu.ram().read(STACK_TOP - 48, &mut frame);
        let mut memory = vec![0; DATA_BYTES as usize];
        self.cpu.ram().read(DATA_PAGES, &mut memory);
        let frame = std::array::from_fn(|index| {
            u64::from_le_bytes(frame[index * 8..][..8].try_into().expect("eight bytes"))
        });
        let float = float(state);
        Outcome::new(vector, state.cr2, frame, state.general, float, memory)
    }

    /// Runs the test program over a batch, as the real processor does.
    ///
    /// # Errors
    /// If the program does not run to its end.
    pub fn run_batch(&mut self, cases: &[Case]) -> Result<Vec<Outcome>, Left> {
        let inputs: Vec<u8> = cases.iter().flat_map(Case::input).collect();
        write(&mut self.cpu, INPUTS, &inputs);
        let control = program::control(cases.len(), self.program.record);
        write(&mut self.cpu, CONTROL, &control);
        let mut state = self.base.clone();
        state.idtr = table(REGISTERS.idt);
        state.rip = self.program.entry;
        self.cpu
            .restore(&state)
            .expect("the state is of this version");
        match self.cpu.run(Goal::Instructions(LIMIT * cases.len() as u64)) {
            Stop::Reached => return Err(Left::Endless),
            Stop::Exit(Exit::MmioWrite { address, .. }) if address == layout::DOORBELL => {
                self.cpu.reply(Reply::None);
            }
            Stop::Exit(exit) => return Err(Left::Exit(exit)),
        }
        let mut outputs = vec![0; cases.len() * OUTPUT_BYTES];
        self.cpu.ram().read(OUTPUTS, &mut outputs);
        Ok(outputs
            .chunks_exact(OUTPUT_BYTES)
            .map(Outcome::from_output)
            .collect())
    }
}

fn write(cpu: &mut Cpu, at: u64, bytes: &[u8]) {
    cpu.ram_mut().write(at, bytes);
    cpu.memory_written(at, bytes.len() as u64);
}

/// The guest-physical address of a case's code.
fn code_page(case: &Case) -> u64 {
    CODE_PAGES + (case.code_at - CODE)
}

fn table((base, limit): (u64, u16)) -> DescriptorTable {
    DescriptorTable { base, limit }
}

/// User mode as [`crate::kvm`] sets it up, with handlers that halt.
fn user_mode() -> State {
    // P, DPL 3, S; G, and L or B.
    const DATA_SEGMENT: u16 = 0xC0F3;
    const CODE_SEGMENT: u16 = 0xA0FB;
    let data = Segment {
        selector: USER_DATA,
        base: 0,
        limit: u32::MAX,
        access: DATA_SEGMENT,
    };
    let code = Segment {
        selector: USER_CODE,
        access: CODE_SEGMENT,
        ..data
    };
    let null = Segment {
        selector: 0,
        ..data
    };
    let at = |base| Segment { base, ..null };
    let mut state = State {
        rflags: RFLAGS,
        segments: [null, code, data, null, at(FS_BASE), at(GS_BASE)],
        ldtr: Segment::default(),
        gdtr: table(REGISTERS.gdt),
        idtr: table(REGISTERS.halting_idt),
        cr0: CR0,
        cr3: REGISTERS.cr3,
        cr4: CR4,
        efer: EFER,
        ..State::default()
    };
    state.tr.selector = TASK;
    (state.tr.base, state.tr.limit) = (REGISTERS.tss.0, u32::from(REGISTERS.tss.1));
    state
}

fn set_float(state: &mut State, float: &Float) {
    state.xmm = float.xmm;
    state.mxcsr = float.mxcsr;
    let mut x87 = X87 {
        control: float.control,
        status: float.status,
        in_use: float.in_use,
        ..state.x87
    };
    let top = usize::from(float.status >> TOP_SHIFT & 7);
    for (index, register) in float.st.iter().enumerate() {
        let physical = (top + index) % 8;
        let (mantissa, rest) = register.split_at(8);
        x87.mantissa[physical] = u64::from_le_bytes(mantissa.try_into().expect("eight bytes"));
        x87.sign_exponent[physical] = u16::from_le_bytes([rest[0], rest[1]]);
    }
    state.x87 = x87;
}

fn float(state: &State) -> Float {
    let x87 = &state.x87;
    let top = usize::from(x87.status >> TOP_SHIFT & 7);
    let st = std::array::from_fn(|index| {
        let physical = (top + index) % 8;
        let mut register = [0; 10];
        register[..8].copy_from_slice(&x87.mantissa[physical].to_le_bytes());
        register[8..].copy_from_slice(&x87.sign_exponent[physical].to_le_bytes());
        register
    });
    Float {
        xmm: state.xmm,
        mxcsr: state.mxcsr,
        control: x87.control,
        status: x87.status,
        in_use: x87.in_use,
        st,
    }
}
