//! Results of the transcendental functions to the last bit, which no processor promises: computed
//! with 12,000 bits by mpmath 1.3 and rounded once, the trigonometric ones with the π of 66 bits.

use crate::float80::environment::Precision;
use crate::float80::*;

#[derive(Clone, Copy, Debug)]
enum Function {
    Sine,
    Cosine,
    Tangent,
    TwoToTheX,
    Logarithm,
    LogarithmOfSum,
    Arctangent,
}

impl Function {
    fn of(self, x: Float80, y: Float80, environment: Environment) -> Option<Outcome> {
        match self {
            Function::Sine => sine(x, environment),
            Function::Cosine => cosine(x, environment),
            Function::Tangent => {
                Some(tangent(x, environment)?.map(|Tangent { tangent, .. }| tangent))
            }
            Function::TwoToTheX => Some(two_to_the_x_minus_one(x, environment)),
            Function::Logarithm => Some(y_times_logarithm_of_x(x, y, environment)),
            Function::LogarithmOfSum => Some(y_times_logarithm_of_x_plus_one(x, y, environment)),
            Function::Arctangent => Some(arctangent(x, y, environment)),
        }
    }
}

type Bits = (u16, u64);

/// Function, rounding, x, y where there is one, the result, and whether it was rounded up.
#[rustfmt::skip]
const RESULTS: [(Function, Rounding, Bits, Bits, Bits, bool); 56] = [
    (Function::Sine, Rounding::Nearest, (0x4000, 0xC90F_DAA2_2168_C235), (0x3FFF, 0x8000_0000_0000_0000), (0xBFBF, 0x8000_0000_0000_0000), true),
    (Function::Sine, Rounding::Down, (0x403D, 0xFFFF_FFFF_FFFF_FFFF), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xE0AB_9300_DA6D_2684), false),
    (Function::Sine, Rounding::Up, (0x3FFE, 0xC90F_DAA2_2168_C235), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xB504_F333_F9DE_6485), true),
    (Function::Sine, Rounding::Zero, (0x3FFD, 0xF53D_ADFA_5EB5_61A4), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFD, 0xEBF8_6CBD_FDD0_A16F), false),
    (Function::Sine, Rounding::Nearest, (0x4011, 0x81AF_7D12_9B08_923D), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFE, 0x943E_8615_282E_8BDB), true),
    (Function::Sine, Rounding::Down, (0xC036, 0x9DFE_8E99_8D00_38EC), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xB3C3_F45D_75EE_BB20), false),
    (Function::Sine, Rounding::Up, (0xBFE3, 0xEB11_2B3A_8A7D_43B5), (0x3FFF, 0x8000_0000_0000_0000), (0xBFE3, 0xEB11_2B3A_8A7D_4330), false),
    (Function::Sine, Rounding::Zero, (0x3F00, 0x8000_0000_0000_0001), (0x3FFF, 0x8000_0000_0000_0000), (0x3F00, 0x8000_0000_0000_0000), false),
    (Function::Cosine, Rounding::Nearest, (0x3FFF, 0xC90F_DAA2_2168_C235), (0x3FFF, 0x8000_0000_0000_0000), (0xBFBE, 0x8000_0000_0000_0000), true),
    (Function::Cosine, Rounding::Down, (0x403D, 0xFFFF_FFFF_FFFF_FFFF), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFD, 0xF56E_C1E0_A37C_4176), false),
    (Function::Cosine, Rounding::Up, (0x3FFE, 0xC90F_DAA2_2168_C235), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xB504_F333_F9DE_6485), true),
    (Function::Cosine, Rounding::Zero, (0xBFFF, 0xEE35_F8F0_A399_F82A), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFD, 0x9284_AFDA_38CA_2C15), false),
    (Function::Cosine, Rounding::Nearest, (0x4006, 0x9368_5CA2_A286_3A7F), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFE, 0xF837_EF67_73DF_8F83), true),
    (Function::Cosine, Rounding::Down, (0xC037, 0x81F0_5409_BDC2_AE99), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFE, 0x889F_285E_D68B_8313), true),
    (Function::Cosine, Rounding::Up, (0x3FDB, 0xFA8F_4391_C21B_6092), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFF, 0x8000_0000_0000_0000), true),
    (Function::Cosine, Rounding::Zero, (0x3F00, 0x8000_0000_0000_0001), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xFFFF_FFFF_FFFF_FFFF), false),
    (Function::Tangent, Rounding::Nearest, (0x3FFF, 0xC90F_DAA2_2168_C235), (0x3FFF, 0x8000_0000_0000_0000), (0xC040, 0x8000_0000_0000_0000), true),
    (Function::Tangent, Rounding::Down, (0x403D, 0xFFFF_FFFF_FFFF_FFFF), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFF, 0xEA57_F75B_8BFE_BB70), false),
    (Function::Tangent, Rounding::Up, (0x3FFE, 0xC90F_DAA2_2168_C235), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFF, 0x8000_0000_0000_0001), true),
    (Function::Tangent, Rounding::Zero, (0xBFFC, 0x83F8_3167_C7B3_17D9), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFC, 0x84B4_7C79_095B_61AA), false),
    (Function::Tangent, Rounding::Nearest, (0xC00A, 0xDC02_6C10_9841_8117), (0x3FFF, 0x8000_0000_0000_0000), (0xC007, 0x9CF8_08E3_129B_D7B9), true),
    (Function::Tangent, Rounding::Down, (0xC033, 0xDD33_3B59_651C_5253), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFE, 0xEA30_DA88_CEC6_2C70), true),
    (Function::Tangent, Rounding::Up, (0xBFFB, 0xF7C1_4E44_F6CE_D90A), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFB, 0xF8F8_8841_8E9F_045A), false),
    (Function::Tangent, Rounding::Zero, (0x3FBB, 0x83FF_FFFF_FFFF_FFFF), (0x3FFF, 0x8000_0000_0000_0000), (0x3FBB, 0x83FF_FFFF_FFFF_FFFF), false),
    (Function::TwoToTheX, Rounding::Nearest, (0x3FFE, 0xFFFF_FFFF_FFFF_FFFF), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xFFFF_FFFF_FFFF_FFFF), true),
    (Function::TwoToTheX, Rounding::Down, (0xBFFE, 0xFFFF_FFFF_FFFF_FFFF), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFE, 0x8000_0000_0000_0000), true),
    (Function::TwoToTheX, Rounding::Up, (0xBFFD, 0x8497_EEEF_18F2_C41C), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFC, 0xA842_9E08_3188_AEB3), false),
    (Function::TwoToTheX, Rounding::Zero, (0xBFFD, 0xA105_875F_378C_74DC), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFC, 0xC891_8E48_E19A_B3F5), false),
    (Function::TwoToTheX, Rounding::Nearest, (0xBFFB, 0xC0ED_5688_6BD0_638B), (0x3FFF, 0x8000_0000_0000_0000), (0xBFFB, 0x8174_55DA_95FD_83AE), false),
    (Function::TwoToTheX, Rounding::Down, (0xBFDB, 0xCAE3_B55A_88BA_FAD9), (0x3FFF, 0x8000_0000_0000_0000), (0xBFDB, 0x8CA1_DCC9_334D_85F6), true),
    (Function::TwoToTheX, Rounding::Up, (0x3F00, 0x8000_0000_0000_0000), (0x3FFF, 0x8000_0000_0000_0000), (0x3EFF, 0xB172_17F7_D1CF_79AC), true),
    (Function::TwoToTheX, Rounding::Zero, (0x3F07, 0xAB1B_1DA5_E779_C470), (0x3FFF, 0x8000_0000_0000_0000), (0x3F06, 0xED34_032F_F7F7_2EBA), false),
    (Function::Logarithm, Rounding::Nearest, (0x3FFF, 0x8000_0000_0000_0001), (0x3FFF, 0x8000_0000_0000_0000), (0x3FC0, 0xB8AA_3B29_5C17_F0BB), false),
    (Function::Logarithm, Rounding::Down, (0x3FFE, 0xFFFF_FFFF_FFFF_FFFF), (0x3FFC, 0xEF13_622D_FAD9_D3A9), (0xBFBD, 0xAC74_E8B0_5691_C9CE), true),
    (Function::Logarithm, Rounding::Up, (0x3FFF, 0xB504_F333_F9DE_6484), (0xBFFF, 0xFAB5_5A27_5C35_D7ED), (0xBFFE, 0xFAB5_5A27_5C35_D7EB), false),
    (Function::Logarithm, Rounding::Zero, (0x3FFE, 0xA3CC_BDB5_DB3D_1150), (0xBFFC, 0xBAEE_B3EF_6072_C48F), (0x3FFB, 0xF0D9_0098_AA68_9313), false),
    (Function::Logarithm, Rounding::Nearest, (0x3FFE, 0xEE29_5EE5_B2D8_7D5E), (0xC002, 0xEEF4_5E5C_A4D5_E415), (0x3FFF, 0xC732_BCD9_68C3_0F86), false),
    (Function::Logarithm, Rounding::Down, (0x3FFF, 0xC558_9619_F6F2_2F41), (0x4003, 0xFC87_70F9_9EC0_9609), (0x4003, 0x9DB9_BDFB_F573_A0E9), false),
    (Function::Logarithm, Rounding::Up, (0x754C, 0xC8D8_83C7_926B_AEAF), (0xC002, 0xD130_6D9E_6E62_91D2), (0xC010, 0xAE39_E8E3_7256_ABE0), false),
    (Function::Logarithm, Rounding::Zero, (0x4032, 0xD3E7_CA6B_B6BC_B64F), (0xBFFD, 0xFD28_766B_6FFC_71E4), (0xC003, 0xCC9C_B51F_08F4_6C0C), false),
    (Function::LogarithmOfSum, Rounding::Nearest, (0x3FC0, 0x8000_0000_0000_0000), (0x3FFF, 0x8000_0000_0000_0000), (0x3FC0, 0xB8AA_3B29_5C17_F0BB), false),
    (Function::LogarithmOfSum, Rounding::Down, (0xBFFD, 0x9000_0000_0000_0000), (0xBFFE, 0xAB61_56E0_8C65_F067), (0x3FFD, 0xA34D_DB21_35F8_1647), false),
    (Function::LogarithmOfSum, Rounding::Up, (0x3FFD, 0xD413_CCCF_E779_9211), (0xBFFA, 0xCA3C_4CD2_FCC9_E97F), (0xBFF9, 0xCA3C_4CD2_FCC9_E97E), false),
    (Function::LogarithmOfSum, Rounding::Zero, (0xBFF8, 0x8FED_7B12_48F2_F8ED), (0x3FFF, 0xCED2_7780_6063_63AB), (0xBFF9, 0xA87F_0F39_9970_80EA), false),
    (Function::LogarithmOfSum, Rounding::Nearest, (0xBFE3, 0xD1C2_D625_DA9B_F98C), (0x4003, 0xD117_9AB9_0F61_6FB4), (0xBFE8, 0xF72B_BFAC_6749_E3F0), false),
    (Function::LogarithmOfSum, Rounding::Down, (0x3FD2, 0xE679_E859_5815_A3D5), (0xBFFF, 0xD6F2_B15E_5A58_B185), (0xBFD4, 0x8B97_D8C9_B73C_8D51), true),
    (Function::LogarithmOfSum, Rounding::Up, (0xBF9F, 0x934C_47A7_E5A8_181B), (0xBFFF, 0xBEA8_07BE_BCEF_D0A7), (0x3FA0, 0x9E43_A1A5_2CA7_E308), true),
    (Function::LogarithmOfSum, Rounding::Zero, (0xB073, 0xE267_C5CB_6D59_298C), (0x3FFA, 0xD687_D56D_F470_7652), (0xB070, 0x88DC_7B89_A2BE_49ED), false),
    (Function::Arctangent, Rounding::Nearest, (0x3FFF, 0x8000_0000_0000_0000), (0x3FFF, 0x8000_0000_0000_0000), (0x3FFE, 0xC90F_DAA2_2168_C235), true),
    (Function::Arctangent, Rounding::Down, (0xBFFF, 0x8000_0000_0000_0001), (0xBFFA, 0xD061_4CAF_4049_8CB3), (0xC000, 0xC5CF_0D3D_142C_CC33), true),
    (Function::Arctangent, Rounding::Up, (0x4001, 0xCD70_42DF_0B50_0A3F), (0xC001, 0xCCFC_7773_97B9_580F), (0xBFFE, 0xC8C7_A0BB_7D96_2ADB), false),
    (Function::Arctangent, Rounding::Zero, (0xBFFB, 0xCB0E_56DE_B7EB_B70C), (0x3FFF, 0x97B6_247B_5D2C_2938), (0x3FFF, 0xD3BE_9A32_7A9E_97C5), false),
    (Function::Arctangent, Rounding::Nearest, (0xC000, 0x9E33_A91F_8163_3ACF), (0xBFFF, 0xCC3D_535E_D805_F5D2), (0xC000, 0xA460_6BD7_73DF_AA0E), false),
    (Function::Arctangent, Rounding::Down, (0xBFFB, 0x89DA_2D1C_01DA_0135), (0xBFFE, 0xB046_CA4C_C98C_9E51), (0xBFFF, 0xD588_DFE2_19BF_4370), true),
    (Function::Arctangent, Rounding::Up, (0x3FD0, 0x9943_E828_F2EA_D0A8), (0x3FB5, 0xC8DD_7235_F8AB_FFD6), (0x3FE4, 0xA7C0_CB52_5AB7_997C), true),
    (Function::Arctangent, Rounding::Zero, (0xC003, 0xA1B6_3695_9C47_92DA), (0x404A, 0xC000_59EC_4F5D_410C), (0x3FFF, 0xC90F_DAA2_2168_C234), false),
];

#[test]
fn results_are_the_exact_ones_rounded() {
    for (function, rounding, x, y, result, rounded_up) in RESULTS {
        let environment = Environment {
            rounding,
            precision: Precision::Single24,
            masks: Exceptions::ALL,
        };
        let [x, y, result] =
            [x, y, result].map(|(exponent, mantissa)| Float80::new(exponent, mantissa));
        let outcome = function.of(x, y, environment);
        let expected = Outcome {
            value: Some(result),
            exceptions: Exceptions::PRECISION,
            rounded_up,
        };
        assert_eq!(
            outcome,
            Some(expected),
            "{function:?} of {x:x?} {y:x?} rounded {rounding:?}"
        );
    }
}
