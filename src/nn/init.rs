//! Random initialisation of parameters.

use crate::rng::Rng;
use crate::tape::{ParameterLayout, Role};

/// Convolutions: normal with variance 2 / fan-in (He et al., ICCV 2015, equation 10), for the
/// half of the activation that SiLU keeps; scales 1; the rest 0. Each parameter draws from a
/// stream of its own name, so that a layer added elsewhere does not change it.
pub fn initialise(layout: &ParameterLayout, seed: u64, values: &mut [f32]) {
    for parameter in layout.iter() {
        let extents = parameter.shape.extents();
        let fan_in = match parameter.role {
            // The taps of the adjoint that meet in one output pixel are at most all of them; with
            // stride = kernel, the only strided case here, it is one.
            Role::ConvTranspose => extents[3],
            Role::Conv => extents[..3].iter().product(),
            Role::Bias | Role::Scale | Role::Embedding => 0,
        };
        let values = &mut values[parameter.range.clone()];
        match parameter.role {
            Role::Scale => values.fill(1.0),
            _ if fan_in == 0 || parameter.zero => values.fill(0.0),
            _ => {
                let deviation = (2.0 / fan_in as f32).sqrt();
                let mut rng = Rng::named(seed, &parameter.name);
                values.iter_mut().for_each(|x| *x = deviation * rng.normal());
            }
        }
    }
}
