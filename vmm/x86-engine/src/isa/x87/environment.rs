//! FSTENV, FLDENV, FSAVE and FRSTOR (SDM 1, 8.1.10 and 8.1.11).
//!
//! The environment is seven words or seven doublewords, by operand size. The engine never leaves protected mode, so the formats of real mode are
//! not needed. FCS and FDS are stored as 0.

use iced_x86::Code;

use crate::{
    cpu::{Core, Step, X87},
    decode::op::{Handler, Op},
    float80::{Class, Float80},
    memory::Access,
};

/// Bytes of a register.
const REGISTER: usize = 10;
/// Bytes of the longer environment and the registers.
const LONGEST: usize = 28 + 8 * REGISTER;

pub(super) fn select(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fnstenv_m14byte => store_environment::<Words>,
        Code::Fnstenv_m28byte => store_environment::<Doublewords>,
        Code::Fldenv_m14byte => load_environment::<Words>,
        Code::Fldenv_m28byte => load_environment::<Doublewords>,
        Code::Fnsave_m94byte => save::<Words>,
        Code::Fnsave_m108byte => save::<Doublewords>,
        Code::Frstor_m94byte => restore::<Words>,
        Code::Frstor_m108byte => restore::<Doublewords>,
        _ => return None,
    })
}

/// How an environment lies in memory.
trait Format {
    /// Of the environment.
    const BYTES: usize;
    /// Of each of its words.
    const UNIT: u64;
    /// Makes it.
    fn pack(x87: &X87, image: &mut [u8]);
    /// Takes it apart; the status word is left for after the control word.
    fn unpack(x87: &mut X87, image: &[u8]);
}

/// 16-bit operand size.
struct Words;
/// 32-bit operand size, also in 64-bit mode.
struct Doublewords;

impl Format for Words {
    const BYTES: usize = 14;
    const UNIT: u64 = 2;

    fn pack(x87: &X87, image: &mut [u8]) {
        let words = [
            x87.control,
            x87.status,
            x87.tags(),
            x87.last_instruction as u16,
            0,
            x87.last_data as u16,
            0,
        ];
        for (place, word) in image.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn unpack(x87: &mut X87, image: &[u8]) {
        x87.last_instruction = word(image, 6).into();
        x87.last_data = word(image, 10).into();
        // There is no place for it.
        x87.last_opcode = 0;
        x87.set_environment(word(image, 0), word(image, 2), word(image, 4));
    }
}

impl Format for Doublewords {
    const BYTES: usize = 28;
    const UNIT: u64 = 4;

    fn pack(x87: &X87, image: &mut [u8]) {
        // What has no meaning is stored as ones.
        let upper = |word: u16| 0xFFFF_0000 | u32::from(word);
        let doublewords = [
            upper(x87.control),
            upper(x87.status),
            upper(x87.tags()),
            x87.last_instruction as u32,
            u32::from(x87.last_opcode) << 16,
            x87.last_data as u32,
            upper(0),
        ];
        for (place, doubleword) in image.chunks_exact_mut(4).zip(doublewords) {
            place.copy_from_slice(&doubleword.to_le_bytes());
        }
    }

    fn unpack(x87: &mut X87, image: &[u8]) {
        let doubleword = |at| u64::from(word(image, at)) | u64::from(word(image, at + 2)) << 16;
        x87.last_instruction = doubleword(12);
        x87.last_opcode = word(image, 18) & 0x7FF;
        x87.last_data = doubleword(20);
        x87.set_environment(word(image, 0), word(image, 4), word(image, 8));
    }
}

fn word(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

impl X87 {
    /// The tag word: two bits for each physical register, 0 valid, 1 zero, 2 special, 3 empty.
    fn tags(&self) -> u16 {
        (0..8).fold(0, |tags, physical| {
            let register = Float80::new(self.sign_exponent[physical], self.mantissa[physical]);
            let tag = match register.class() {
                _ if self.in_use >> physical & 1 == 0 => 3,
                Class::Normal => 0,
                Class::Zero => 1,
                _ => 2,
            };
            tags | tag << (2 * physical)
        })
    }

    fn set_environment(&mut self, control: u16, status: u16, tags: u16) {
        self.in_use = (0..8).fold(0, |in_use, physical| {
            let empty = tags >> (2 * physical) & 3 == 3;
            in_use | u8::from(!empty) << physical
        });
        self.set_control(control);
        self.set_status(status);
    }
}

/// FNSTENV, which also masks all exceptions.
fn store_environment<F: Format>(core: &mut Core, op: &Op) -> Step {
    core.require_x87()?;
    let mut image = [0; LONGEST];
    let image = &mut image[..F::BYTES];
    F::pack(&core.x87, image);
    let area = core.area(op, image.len() as u64, F::UNIT, 1, Access::Write)?;
    core.store_area(area, 0, image)?;
    core.x87.mask_all();
    Ok(())
}

fn load_environment<F: Format>(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let mut image = [0; LONGEST];
    let image = &mut image[..F::BYTES];
    let area = core.area(op, image.len() as u64, F::UNIT, 1, Access::Read)?;
    core.load_area(area, 0, image)?;
    F::unpack(&mut core.x87, image);
    Ok(())
}

/// FNSAVE: environment and registers from ST(0) on, then FNINIT.
fn save<F: Format>(core: &mut Core, op: &Op) -> Step {
    core.require_x87()?;
    let mut image = [0; LONGEST];
    let image = &mut image[..F::BYTES + 8 * REGISTER];
    let (environment, registers) = image.split_at_mut(F::BYTES);
    F::pack(&core.x87, environment);
    for (index, place) in registers.chunks_exact_mut(REGISTER).enumerate() {
        place.copy_from_slice(&core.x87.register(index).to_bytes());
    }
    let area = core.area(op, image.len() as u64, F::UNIT, 1, Access::Write)?;
    core.store_area(area, 0, image)?;
    core.x87.initialise();
    Ok(())
}

fn restore<F: Format>(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let mut image = [0; LONGEST];
    let image = &mut image[..F::BYTES + 8 * REGISTER];
    let area = core.area(op, image.len() as u64, F::UNIT, 1, Access::Read)?;
    core.load_area(area, 0, image)?;
    let (environment, registers) = image.split_at(F::BYTES);
    let x87 = &mut core.x87;
    F::unpack(x87, environment);
    let in_use = x87.in_use;
    for (index, bytes) in registers.as_chunks::<REGISTER>().0.iter().enumerate() {
        x87.set_register(index, Float80::from_bytes(*bytes));
    }
    x87.in_use = in_use;
    Ok(())
}
