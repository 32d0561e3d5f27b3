//! From planes to what a codec codes, and from there to what the decoder reads.

use crate::error::Result;
use crate::hexplane::Planes;
use crate::model::codec::Code;
use crate::model::{Autoencoder, LatentKind};
use crate::tape::{Graph, Tape, Value};

/// What the indices of a discrete latent stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum Alphabet {
    /// None: the latent is continuous.
    Values,
    /// One of so many classes, in each of so many groups.
    Classes { groups: usize, classes: usize },
    /// One of the levels of each channel.
    Levels(Vec<usize>),
}

impl Alphabet {
    pub fn of(model: &Autoencoder) -> Self {
        let latent = &model.latent;
        match latent.kind {
            LatentKind::Deterministic | LatentKind::Gaussian => Self::Values,
            LatentKind::Categorical => Self::Classes { groups: latent.groups, classes: latent.classes },
            LatentKind::Fsq => Self::Levels(model.levels().collect()),
        }
    }

    /// Indices that an entry can have.
    pub fn size(&self, entry: usize) -> usize {
        match self {
            Self::Values => 0,
            Self::Classes { classes, .. } => *classes,
            Self::Levels(levels) => levels[entry % levels.len()],
        }
    }

    /// Slots of a site.
    pub fn slots(&self, channels: usize) -> usize {
        match self {
            Self::Classes { groups, .. } => *groups,
            _ => channels,
        }
    }

    fn code(&self, values: Vec<f32>) -> Code {
        match self {
            Self::Values => Code::Values(values),
            Self::Classes { classes, .. } => {
                let class =
                    |one_hot: &[f32]| one_hot.iter().position(|&x| x > 0.5).unwrap_or_default() as u16;
                Code::Indices(values.chunks(*classes).map(class).collect())
            }
            Self::Levels(_) => {
                let last = |i: usize| (self.size(i) - 1) as f32;
                let index =
                    |(i, x): (usize, &f32)| ((x + 1.0) * 0.5 * last(i)).round().clamp(0.0, last(i)) as u16;
                Code::Indices(values.iter().enumerate().map(index).collect())
            }
        }
    }

    fn values(&self, code: &Code) -> Vec<f32> {
        match (self, code) {
            (_, Code::Values(values)) => values.clone(),
            (Self::Classes { classes, .. }, Code::Indices(indices)) => {
                let mut values = vec![0.0; indices.len() * classes];
                for (one_hot, &index) in values.chunks_mut(*classes).zip(indices) {
                    one_hot[usize::from(index)] = 1.0;
                }
                values
            }
            (_, Code::Indices(indices)) => {
                let value =
                    |(i, &index): (usize, &u16)| 2.0 * f32::from(index) / (self.size(i) - 1) as f32 - 1.0;
                indices.iter().enumerate().map(value).collect()
            }
        }
    }
}

/// Planes of one mesh to its code.
pub struct CodeEncoder {
    tape: Tape,
    planes: Value,
    codes: Value,
    alphabet: Alphabet,
}

impl CodeEncoder {
    pub fn new(model: &mut Autoencoder) -> Result<Self> {
        let mut graph = Graph::default();
        let planes = graph.input(model.planes_shape(1));
        let posterior = model.record_posterior(&mut graph, planes)?;
        let codes = model.record_codes(&mut graph, posterior)?;
        let tape = Tape::new(&model.parameters.device(), graph, None, &[codes])?;
        Ok(Self { tape, planes, codes, alphabet: Alphabet::of(model) })
    }

    pub fn encode(&mut self, model: &Autoencoder, planes: &Planes) -> Result<Code> {
        self.tape.load(self.planes, 0, &model.seen(planes))?;
        self.tape.forward(&model.parameters)?;
        Ok(self.alphabet.code(self.tape.value(self.codes)?))
    }
}

/// What the decoder reads, `[6, s, s, channels]`, for a code of the model's kind and shape.
pub fn latent_of_code(model: &mut Autoencoder, code: &Code) -> Result<Vec<f32>> {
    if let Code::Values(values) = code {
        return Ok(values.clone());
    }
    let mut graph = Graph::default();
    let shape = match model.latent.kind {
        LatentKind::Categorical => model.codes_shape(1),
        _ => model.latent_shape(1),
    };
    let codes = graph.input(shape);
    let latent = model.record_from_codes(&mut graph, codes)?;
    let mut tape = Tape::new(&model.parameters.device(), graph, None, &[latent])?;
    tape.load(codes, 0, &Alphabet::of(model).values(code))?;
    tape.forward(&model.parameters)?;
    tape.value(latent)
}
