//! F2XM1, FYL2X, FYL2XP1, FPATAN, FPTAN, FSIN, FCOS and FSINCOS.
//!
//! In: registers and the environment, of which the precision field is ignored. Out: the result,
//! computed with 128 bits and rounded once, as the rounding field says. So it is the exact one
//! rounded in all but about one case in 2^60.
//!
//! Real processors promise less than that, an error below one unit of the last place (Intel SDM 1,
//! 8.3.10), and the last bit differs among their makes and models. Here it is the same everywhere;
//! a comparison with a processor has to leave it out, and C1 with it. Special cases and exceptions
//! do agree. The trigonometric functions reduce their operand with the π of 66 bits that the same
//! section documents.

mod exponential;
mod logarithm;
mod reduce;
mod trigonometric;
mod arctangent;
mod wide;

pub(crate) use arctangent::arctangent;
pub(crate) use exponential::two_to_the_x_minus_one;
pub(crate) use logarithm::{y_times_logarithm_of_x, y_times_logarithm_of_x_plus_one};
pub(crate) use trigonometric::{SineAndCosine, cosine, sine, sine_and_cosine, tangent};
