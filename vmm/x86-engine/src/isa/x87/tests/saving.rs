//! FXSAVE, FXRSTOR, XSAVE and XRSTOR on random states, against the real processor.

use iced_x86::Code;

use super::{
    coverage::encode,
    generator::Generator,
    twin::{AFTER, Situation, Software, on_hardware, wrapped},
};

const CASES: u64 = 5_000;
/// Where XSAVE has its header.
const HEADER: usize = 512;
const INITIAL: [u8; 2] = 0x37F_u16.to_le_bytes();

/// A legacy region that may have pending exceptions, with pointers; or one in which much is in its initial state.
fn region(generator: &mut Generator) -> [u8; 512] {
    let mut image = generator.image(true);
    image[6..8].copy_from_slice(&(generator.next() as u16).to_le_bytes());
    image[8..16].copy_from_slice(&generator.next().to_le_bytes());
    image[16..24].copy_from_slice(&generator.next().to_le_bytes());
    if generator.below(3) == 0 {
        image[..2].copy_from_slice(&INITIAL);
        image[2..24].fill(0);
    }
    if generator.below(3) == 0 {
        image[32..160].fill(0);
    }
    if generator.below(3) == 0 {
        image[160..416].fill(0);
    }
    image[24..28].copy_from_slice(&(generator.next() as u32 & 0xFFFF).to_le_bytes());
    image
}

/// Clears what tells processors apart: MXCSR_MASK, and FCS and FDS where `narrow`.
fn mask(situation: &mut Situation, narrow: bool) {
    for at in [0, AFTER] {
        situation.data[at + 28..at + 32].fill(0);
    }
    if narrow {
        situation.data[12..16].fill(0);
        situation.data[20..24].fill(0);
    }
}

/// Runs an instruction whose operand is a whole area at RDI on both processors.
fn compare(code: Code, prepare: impl Fn(&mut Generator, &mut Situation)) {
    let mut generator = Generator::new(code as u64);
    let mut software = Software::new();
    let wrapped = wrapped(&encode(code, 0));
    let narrow = matches!(code, Code::Fxsave_m512byte | Code::Xsave_mem);
    for case in 0..CASES {
        let image = region(&mut generator);
        let mut before = Situation::new(&mut generator, &image);
        prepare(&mut generator, &mut before);
        let mut expected = on_hardware(&wrapped, &before);
        let mut found = software
            .run(&wrapped, &before, 3)
            .unwrap_or_else(|stop| panic!("{code:?} stopped: {stop:?}"));
        mask(&mut expected, narrow);
        mask(&mut found, narrow);
        let difference = (0..before.data.len()).find(|at| expected.data[*at] != found.data[*at]);
        if let Some(at) = difference {
            panic!(
                "{code:?}, case {case}: at {at:#x} {:x?} instead of {:x?}, from {:x?} {:x?}",
                &found.data[at..at + 8],
                &expected.data[at..at + 8],
                &image[..32],
                &before.data[..32],
            );
        }
        assert_eq!(expected.registers, found.registers, "{code:?}, case {case}");
    }
}

#[test]
fn fxsave_stores_what_the_processor_stores() {
    compare(Code::Fxsave_m512byte, |_, _| {});
    compare(Code::Fxsave64_m512byte, |_, _| {});
}

#[test]
fn fxrstor_loads_what_the_processor_loads() {
    for code in [Code::Fxrstor_m512byte, Code::Fxrstor64_m512byte] {
        compare(code, |generator, before| {
            let image = region(generator);
            before.data[..512].copy_from_slice(&image);
        });
    }
}

/// Requests any of the two components. EDX is the low half of an address: what it requests does not exist.
fn request(generator: &mut Generator, before: &mut Situation) {
    before.registers.rax = generator.below(4) | generator.next() << 32;
}

#[test]
fn xsave_stores_what_the_processor_stores() {
    for code in [Code::Xsave_mem, Code::Xsave64_mem] {
        compare(code, request);
    }
}

#[test]
fn xrstor_loads_what_the_processor_loads() {
    for code in [Code::Xrstor_mem, Code::Xrstor64_mem] {
        compare(code, |generator, before| {
            request(generator, before);
            let image = region(generator);
            before.data[..HEADER].copy_from_slice(&image);
            before.data[HEADER..HEADER + 64].fill(0);
            before.data[HEADER] = generator.below(4) as u8;
        });
    }
}
