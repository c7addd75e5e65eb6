//! FPATAN.
//!
//! In: x in ST(0) and y in ST(1). Out: the angle of the point (x, y), between -π and π.

use super::wide::{Wide, alternating_series};
use crate::float80::class::{Class, special_operands};
use crate::float80::constants;
use crate::float80::round::round;
use crate::float80::{Environment, Float80, Outcome};

const PI: Wide = Wide { negative: false, power: 1, significand: constants::PI };

/// 1 / (2k + 1) in units of 2^-127.
const COEFFICIENTS: [u128; 17] = {
    let mut coefficients = [0; 17];
    let mut index = 0;
    while index < 17 {
        coefficients[index] = (1 << 127) / (2 * index as u128 + 1);
        index += 1;
    }
    coefficients
};

/// The arc tangents of 1/8 to 8/8: power of two and the leading 128 bits.
const TABLE: [(i32, u128); 8] = [
    (-4, 0xFEAD_D4D5_617B_6E32_C897_989F_3E88_8EF7),
    (-3, 0xFADB_AFC9_6406_EB15_6DC7_9EF5_F7A2_17E5),
    (-2, 0xB7B0_CA0F_26F7_8473_8AA3_2122_DCFE_4483),
    (-2, 0xED63_382B_0DDA_7B45_6FE4_45EC_BC3A_8D03),
    (-1, 0x8F00_5D5E_F7F5_9F9B_5C83_5E16_65C4_3747),
    (-1, 0xA4BC_7D19_34F7_0924_19A8_7F2A_457D_AC9E),
    (-1, 0xB805_3E2B_C231_9E73_CB2D_A552_10A4_443D),
    (-1, 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1),
];

/// FPATAN: the arc tangent of `y / x` in the quadrant of (x, y).
pub(crate) fn arctangent(x: Float80, y: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operands(x, y) {
        return Outcome::masked(value, exceptions, environment);
    }
    let (class_x, class_y) = (x.class(), y.class());
    let exceptions = class_x.denormal() | class_y.denormal();
    if environment.traps(exceptions) {
        return Outcome::stopped(exceptions);
    }
    let (left, negative) = (x.is_negative(), y.is_negative());
    let angle = match (class_x, class_y) {
        (Class::Infinity, Class::Infinity) if left => three_quarters_of_pi(),
        (Class::Infinity, Class::Infinity) => PI.times_power_of_two(-2),
        (Class::Infinity, _) | (_, Class::Zero) if left => PI,
        (Class::Infinity, _) | (_, Class::Zero) => {
            return Outcome { exceptions, ..Outcome::exact(Float80::zero(negative)) };
        }
        (Class::Zero, _) | (_, Class::Infinity) => PI.times_power_of_two(-1),
        _ => angle_of(Wide::of(x), Wide::of(y).with_sign(false)),
    };
    round(angle.with_sign(negative).inexact(), exceptions, environment.extended())
}

fn three_quarters_of_pi() -> Wide {
    PI.times_power_of_two(-1).plus(PI.times_power_of_two(-2)).expect("a positive sum")
}

/// The angle of a point above the x axis.
fn angle_of(x: Wide, y: Wide) -> Wide {
    let width = x.with_sign(false);
    let steep = (y.power, y.significand) > (width.power, width.significand);
    let quotient = if steep { width.over(y) } else { y.over(width) };
    let angle = arctangent_of_fraction(quotient);
    let (from, subtract) = match (steep, x.negative) {
        (false, false) => return angle,
        (false, true) => (PI, true),
        (true, left) => (PI.times_power_of_two(-1), !left),
    };
    let angle = if subtract { angle.negated() } else { angle };
    from.plus(angle).expect("at most π/4 is taken away")
}

/// The arc tangent of a positive number up to 1: that of the nearest eighth, and that of the rest.
fn arctangent_of_fraction(tangent: Wide) -> Wide {
    let eighths = nearest_eighth(tangent);
    let Some(index) = eighths.checked_sub(1) else {
        return series(tangent);
    };
    let eighth = Wide::scaled(false, eighths as u128, -3).expect("1 to 8");
    let (power, significand) = TABLE[index];
    let near = Wide { negative: false, power, significand };
    let Some(difference) = tangent.plus(eighth.negated()) else {
        return near;
    };
    let denominator = tangent.times(eighth).plus(Wide::ONE).expect("a sum of positive numbers");
    near.plus(series(difference.over(denominator))).expect("the rest is smaller")
}

/// 0 to 8.
fn nearest_eighth(tangent: Wide) -> usize {
    // In units of 2^-4, cut off: half an eighth more is the next one.
    let sixteenths = tangent.significand.checked_shr((123 - tangent.power) as u32).unwrap_or(0);
    (sixteenths as usize).div_ceil(2)
}

/// The arc tangent of a magnitude of at most 1/16.
fn series(tangent: Wide) -> Wide {
    let ratio = alternating_series(tangent.squared_fraction(), &COEFFICIENTS);
    // Always below the tangent, also where the square is too small to be seen.
    let ratio = ratio.min((1 << 127) - 1);
    tangent.times(Wide::scaled(false, ratio, -127).expect("near 1"))
}
