//! Floating-point work: bodies that attract each other (double precision, division and square roots) and sums over vectors (single
//! precision, four at a time).

const BODIES: usize = 5;
const LENGTH: usize = 4096;

/// Does everything `times` times.
pub fn run(times: u32) -> u32 {
    let mut bodies: Vec<[f64; 7]> = (0..BODIES)
        .map(|i| {
            let x = i as f64;
            [
                x,
                1.0 - x * 0.5,
                0.25 * x,
                0.01 * x,
                0.02,
                -0.01 * x,
                1.0 / (1.0 + x),
            ]
        })
        .collect();
    let a: Vec<f32> = (0..LENGTH).map(|i| i as f32 * 0.001).collect();
    let mut b = vec![0.5_f32; LENGTH];
    for time in 0..times {
        for _ in 0..100 {
            advance(&mut bodies, 0.001);
        }
        let factor = time as f32 * 0.0001 + 0.1;
        for (target, source) in b.iter_mut().zip(&a) {
            *target = *target * 0.99 + *source * factor;
        }
    }
    let energy: f64 = bodies.iter().map(|body| body[0] + body[4]).sum();
    let sum: f32 = b.iter().sum();
    (energy.to_bits() >> 20) as u32 ^ sum.to_bits()
}

/// One step of the attraction.
fn advance(bodies: &mut [[f64; 7]], step: f64) {
    for i in 0..bodies.len() {
        for j in i + 1..bodies.len() {
            let difference: [f64; 3] = std::array::from_fn(|k| bodies[i][k] - bodies[j][k]);
            let square: f64 = difference.iter().map(|d| d * d).sum::<f64>() + 0.01;
            let magnitude = step / (square * square.sqrt());
            for (k, d) in difference.into_iter().enumerate() {
                bodies[i][3 + k] -= d * bodies[j][6] * magnitude;
                bodies[j][3 + k] += d * bodies[i][6] * magnitude;
            }
        }
    }
    for body in bodies {
        for k in 0..3 {
            body[k] += step * body[3 + k];
        }
    }
}
