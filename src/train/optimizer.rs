//! AdamW (Loshchilov & Hutter 2019) with a warm-up and linear decay of the learning rate.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::model::squared_norm;

/// Elements one task updates.
const CHUNK: usize = 1 << 15;

/// A trainable tensor with its own learning rate and weight decay.
pub struct Parameter {
    pub name: String,
    pub var: Var,
    pub learning_rate: f64,
    pub weight_decay: f64,
}

/// Variables to train, in the order of their names, so that sums over them are the same in every run.
/// Biases and the parameters of layer norms are not decayed.
pub fn parameters(
    variables: impl Iterator<Item = (String, Var)>,
    weight_decay: f64,
    learning_rate: impl Fn(&str) -> f64,
) -> Vec<Parameter> {
    let is_decayed = |name: &str| name.ends_with("weight") && !name.contains("LayerNorm");
    let mut parameters: Vec<Parameter> = variables
        .map(|(name, var)| Parameter {
            weight_decay: if is_decayed(&name) { weight_decay } else { 0.0 },
            learning_rate: learning_rate(&name),
            name,
            var,
        })
        .collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
}

/// Running means of a gradient and of its square, element by element.
enum Moments {
    /// On the CPU one kernel updates all in place.
    Cpu(Vec<f32>, Vec<f32>),
    Tensors(Tensor, Tensor),
}

pub struct AdamW {
    parameters: Vec<(Parameter, Moments)>,
    steps: i32,
}

/// Before the names of parameters, their moments' names.
const FIRST: &str = "first:";
const SECOND: &str = "second:";

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl AdamW {
    pub fn new(parameters: Vec<Parameter>) -> Result<Self> {
        let parameters = parameters
            .into_iter()
            .map(|parameter| {
                let var = &parameter.var;
                let moments = if var.device().is_cpu() && var.dtype() == DType::F32 {
                    Moments::Cpu(vec![0.0; var.elem_count()], vec![0.0; var.elem_count()])
                } else {
                    Moments::Tensors(var.zeros_like()?, var.zeros_like()?)
                };
                Ok((parameter, moments))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            parameters,
            steps: 0,
        })
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().map(|(parameter, _)| parameter)
    }

    /// All that [`AdamW::restore`] needs to go on, but for the number of steps: each parameter under its
    /// name, its moments under `first:` and `second:` and the name.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (Parameter { name, var, .. }, moments) in &self.parameters {
            let (first, second) = match moments {
                Moments::Cpu(first, second) => {
                    let tensor =
                        |values: &[f32]| Tensor::from_slice(values, var.shape(), &Device::Cpu);
                    (tensor(first)?, tensor(second)?)
                }
                Moments::Tensors(first, second) => (first.clone(), second.clone()),
            };
            state.push((name.clone(), var.as_tensor().clone()));
            state.push((format!("{FIRST}{name}"), first));
            state.push((format!("{SECOND}{name}"), second));
        }
        Ok(state)
    }

    /// Puts the state of an optimizer of the same parameters, after `steps` steps, in place of this
    /// one's.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>, steps: usize) -> Result<()> {
        let get = |name: &str| match state.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("the state has no {name}"),
        };
        for (Parameter { name, var, .. }, moments) in &mut self.parameters {
            let (first, second) = (
                get(&format!("{FIRST}{name}"))?,
                get(&format!("{SECOND}{name}"))?,
            );
            match moments {
                Moments::Cpu(m, v) => {
                    *m = first.flatten_all()?.to_vec1()?;
                    *v = second.flatten_all()?.to_vec1()?;
                }
                Moments::Tensors(m, v) => {
                    *m = first.to_device(var.device())?;
                    *v = second.to_device(var.device())?;
                }
            }
            var.set(&get(name)?.to_device(var.device())?)?;
        }
        self.steps = steps as i32;
        Ok(())
    }

    /// One update. `rate` multiplies every learning rate (see [`schedule`]); gradients are scaled down
    /// to a global norm of at most `clip_norm`. Returns the norm before that.
    ///
    /// # Errors
    /// A parameter has no gradient: it is cut off from the loss, and would silently never learn.
    pub fn step(&mut self, grads: &GradStore, rate: f64, clip_norm: f64) -> Result<f64> {
        let mut squares = 0.0;
        for (parameter, _) in &self.parameters {
            match grads.get(&parameter.var) {
                Some(grad) => squares += squared_norm(grad)?,
                None => bail!("parameter {} has no gradient", parameter.name),
            }
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            bail!(
                "the gradient is {norm} at step {}; use a lower learning rate",
                self.steps + 1
            );
        }
        self.steps += 1;
        let correction1 = 1.0 - BETA1.powi(self.steps);
        let correction2 = 1.0 - BETA2.powi(self.steps);
        for (parameter, moments) in &mut self.parameters {
            let Some(grad) = grads.get(&parameter.var) else {
                continue;
            };
            let update = Update {
                scale: if norm > clip_norm {
                    clip_norm / norm
                } else {
                    1.0
                },
                rate: parameter.learning_rate * rate / correction1,
                decay: 1.0 - parameter.learning_rate * rate * parameter.weight_decay,
                correction2,
            };
            match moments {
                Moments::Cpu(first, second) => {
                    let state = RefCell::new((first.as_mut_slice(), second.as_mut_slice()));
                    parameter
                        .var
                        .inplace_op2(&grad.contiguous()?, &CpuUpdate { update, state })?;
                }
                Moments::Tensors(first, second) => {
                    update.apply(&parameter.var, grad, first, second)?
                }
            }
        }
        Ok(norm)
    }
}

/// `m = β₁m + (1-β₁)g`, `v = β₂v + (1-β₂)g²`, `θ = decay·θ - rate·m / (√(v/(1-β₂ᵗ)) + ε)`, where `g` is
/// the gradient times `scale` and `rate` includes the first moment's correction `1/(1-β₁ᵗ)`.
#[derive(Clone, Copy)]
struct Update {
    scale: f64,
    rate: f64,
    decay: f64,
    correction2: f64,
}

impl Update {
    fn apply(
        self,
        var: &Var,
        grad: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> Result<()> {
        let grad = (grad * self.scale)?;
        *first = ((&*first * BETA1)? + (&grad * (1.0 - BETA1))?)?;
        *second = ((&*second * BETA2)? + (grad.sqr()? * (1.0 - BETA2))?)?;
        let denominator = ((&*second / self.correction2)?.sqrt()? + EPSILON)?;
        let change = ((&*first / denominator)? * self.rate)?;
        var.set(&((var.as_tensor() * self.decay)? - change)?)
    }
}

struct CpuUpdate<'a> {
    update: Update,
    state: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp2 for CpuUpdate<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(values), CpuStorage::F32(grad)) = (dst, grad) else {
            bail!("expected f32 parameters and gradients")
        };
        let (Some((start, end)), Some((grad_start, grad_end))) = (
            dst_layout.contiguous_offsets(),
            grad_layout.contiguous_offsets(),
        ) else {
            bail!("expected contiguous parameters and gradients")
        };
        let mut state = self.state.borrow_mut();
        let (first, second) = &mut *state;
        let by = self.update;
        values[start..end]
            .par_chunks_mut(CHUNK)
            .zip(grad[grad_start..grad_end].par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .for_each(|(((values, grad), first), second)| update(values, grad, first, second, by));
        Ok(())
    }
}

#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512dq+avx512bw+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn update(values: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], by: Update) {
    let (beta1, beta2, epsilon) = (BETA1 as f32, BETA2 as f32, EPSILON as f32);
    let (scale, rate, decay) = (by.scale as f32, by.rate as f32, by.decay as f32);
    let correction = (1.0 / by.correction2) as f32;
    for (((value, grad), m), v) in values.iter_mut().zip(grad).zip(first).zip(second) {
        let g = grad * scale;
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        *value = decay * *value - rate * *m / ((*v * correction).sqrt() + epsilon);
    }
}

/// The factor on the learning rate at `step` of `total`: from 0 up to 1 over the first `warmup`
/// fraction, then down to 0 in a straight line.
pub fn schedule(step: usize, total: usize, warmup: f64) -> f64 {
    let warm = (total as f64 * warmup).ceil();
    let step = step as f64 + 1.0;
    if step <= warm {
        step / warm
    } else {
        ((total as f64 + 1.0 - step) / (total as f64 + 1.0 - warm)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::optim::{AdamW as Reference, Optimizer, ParamsAdamW};

    use super::*;

    /// A loss whose gradient differs by element and step.
    fn grads(var: &Var, step: usize) -> GradStore {
        let target = Tensor::arange(0f32, 6., &Device::Cpu)
            .unwrap()
            .reshape((2, 3))
            .unwrap();
        let target = (target * (step as f64 * 0.3 - 1.0)).unwrap();
        (var.as_tensor() - target)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap()
    }

    #[test]
    fn the_update_equals_candles_adamw() {
        let start = Tensor::new(&[[0.5f32, -1.0, 2.0], [0.1, 0.0, -0.3]], &Device::Cpu).unwrap();
        let (ours, theirs) = (
            Var::from_tensor(&start).unwrap(),
            Var::from_tensor(&start).unwrap(),
        );
        let params = ParamsAdamW {
            lr: 0.01,
            weight_decay: 0.1,
            eps: EPSILON,
            beta1: BETA1,
            beta2: BETA2,
        };
        let mut reference = Reference::new(vec![theirs.clone()], params).unwrap();
        let parameter = Parameter {
            name: "w".into(),
            var: ours.clone(),
            learning_rate: 0.01,
            weight_decay: 0.1,
        };
        let mut optimizer = AdamW::new(vec![parameter]).unwrap();
        for step in 0..5 {
            optimizer
                .step(&grads(&ours, step), 1.0, f64::INFINITY)
                .unwrap();
            reference.step(&grads(&theirs, step)).unwrap();
        }
        let difference = (ours.as_tensor() - theirs.as_tensor())
            .unwrap()
            .abs()
            .unwrap();
        let largest = difference
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(largest < 1e-6, "{largest}");
    }

    #[test]
    fn the_kernel_equals_the_composed_update() {
        let start = Tensor::new(&[0.5f32, -1.0, 2.0], &Device::Cpu).unwrap();
        let grad = Tensor::new(&[0.1f32, 3.0, -0.7], &Device::Cpu).unwrap();
        let by = Update {
            scale: 0.5,
            rate: 0.02,
            decay: 0.99,
            correction2: 0.3,
        };
        let (a, b) = (
            Var::from_tensor(&start).unwrap(),
            Var::from_tensor(&start).unwrap(),
        );
        let (mut first, mut second) = (vec![0.2f32; 3], vec![0.4f32; 3]);
        let mut tensors = (
            Tensor::new(first.as_slice(), &Device::Cpu).unwrap(),
            Tensor::new(second.as_slice(), &Device::Cpu).unwrap(),
        );
        let state = RefCell::new((first.as_mut_slice(), second.as_mut_slice()));
        a.inplace_op2(&grad, &CpuUpdate { update: by, state })
            .unwrap();
        by.apply(&b, &grad, &mut tensors.0, &mut tensors.1).unwrap();
        let first = Tensor::new(first.as_slice(), &Device::Cpu).unwrap();
        for (a, b) in [(a.as_tensor(), b.as_tensor()), (&first, &tensors.0)] {
            for (a, b) in a
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .zip(b.to_vec1::<f32>().unwrap())
            {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_parameter_cut_off_from_the_loss_is_an_error() {
        let used = Var::ones(2, DType::F32, &Device::Cpu).unwrap();
        let unused = Var::ones(2, DType::F32, &Device::Cpu).unwrap();
        let parameter = |name: &str, var: &Var| Parameter {
            name: name.into(),
            var: var.clone(),
            learning_rate: 0.1,
            weight_decay: 0.0,
        };
        let mut optimizer =
            AdamW::new(vec![parameter("used", &used), parameter("unused", &unused)]).unwrap();
        let grads = used.as_tensor().sum_all().unwrap().backward().unwrap();
        let error = optimizer.step(&grads, 1.0, 1.0).unwrap_err().to_string();
        assert!(error.contains("unused"), "{error}");
    }

    #[test]
    fn the_rate_rises_to_one_and_falls_to_nearly_nothing() {
        let rates: Vec<f64> = (0..100).map(|step| schedule(step, 100, 0.1)).collect();
        assert!((rates[9] - 1.0).abs() < 1e-12);
        assert!(rates[..10].is_sorted() && rates[9..].is_sorted_by(|a, b| a >= b));
        assert!(rates[0] > 0.0 && rates[99] > 0.0 && rates[99] < 0.02);
    }
}
