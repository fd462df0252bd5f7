//! `--device` and `--precision`.

use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};
use clap::ValueEnum;
use faultlens::model::inference::Arithmetic;
use faultlens::train::Precision;

/// Where the model runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeviceChoice {
    /// CUDA or Metal where this build has it and the machine too, else the CPU.
    Auto,
    Cpu,
    Cuda(usize),
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "0")) {
            ("auto", "0") => Ok(Self::Auto),
            ("cpu", "0") => Ok(Self::Cpu),
            ("metal", "0") => Ok(Self::Metal),
            ("cuda", number) => number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("{number} is no device number")),
            _ => Err("it is one of auto, cpu, cuda, cuda:N, metal".into()),
        }
    }
}

impl DeviceChoice {
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if cuda_is_available() => Ok(Device::new_cuda(0)?),
            Self::Auto if metal_is_available() => Ok(Device::new_metal(0)?),
            Self::Auto => Ok(Device::Cpu),
            Self::Cuda(_) if !cuda_is_available() => Err(anyhow!(
                "this build has no CUDA; build with --features cuda, or use --device cpu"
            )),
            Self::Metal if !metal_is_available() => Err(anyhow!(
                "this build has no Metal; build with --features metal, or use --device cpu"
            )),
            Self::Cuda(number) => Device::new_cuda(number).map_err(|e| {
                anyhow!("cannot use CUDA device {number}: {e}; see nvidia-smi, or use --device cpu")
            }),
            Self::Metal => {
                Device::new_metal(0).map_err(|e| anyhow!("cannot use Metal: {e}; use --device cpu"))
            }
        }
    }
}

/// In which numbers a training computes.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum PrecisionChoice {
    F32,
    Bf16,
}

impl PrecisionChoice {
    /// What was chosen, or what is best on `device`.
    pub fn or_default(choice: Option<Self>, device: &Device) -> Precision {
        match choice {
            Some(Self::F32) => Precision::F32,
            Some(Self::Bf16) => Precision::Bf16,
            None if device.is_cuda() => Precision::Bf16,
            None => Precision::F32,
        }
    }
}

/// In which numbers issues are labelled.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum ArithmeticChoice {
    /// int8 on a CPU, f16 on CUDA, else f32
    Auto,
    F32,
    /// As a GPU computes; on a CPU slow, and only to see what labels come of it
    F16,
    /// As f16
    Bf16,
    Int8,
}

impl ArithmeticChoice {
    pub fn on(self, device: &Device) -> Result<Arithmetic> {
        Ok(match self {
            Self::Auto if device.is_cpu() => Arithmetic::Int8,
            Self::Auto if device.is_cuda() => Arithmetic::F16,
            Self::Auto | Self::F32 => Arithmetic::F32,
            Self::F16 => Arithmetic::F16,
            Self::Bf16 => Arithmetic::Bf16,
            Self::Int8 if !device.is_cpu() => {
                bail!("int8 is for CPUs; on a GPU use --precision f16, bf16 or f32")
            }
            Self::Int8 => Arithmetic::Int8,
        })
    }
}
