//! The kernels' parameter structs: the same bytes as `kernels/abi.h`, which says what each field means.
//!
//! Pointers are device addresses, 0 for none; a pair of them is indexed by branch (0 emotion, 1 au).

use std::mem::{offset_of, size_of};

/// An address in device memory; 0 where the kernel takes none.
pub type DevicePointer = u64;

pub use super::plan::variants::{CONCAT_INPUTS, HEADS, VECTOR, pitch};

/// What a parameter struct of a kernel is: plain bytes that the driver copies.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding bytes, and equals the parameter of the kernel it is launched with.
pub unsafe trait Params: Copy + 'static {}

/// Words of 8 bytes that hold every parameter struct.
pub(super) const PARAMS_WORDS: usize = 54;

#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None = 0,
    Relu = 1,
    LeakyRelu = 2,
    Silu = 3,
    Relu6 = 4,
    Prelu = 5,
    Elu = 6,
    Sigmoid = 7,
    HardSigmoid = 8,
    HardSwish = 9,
    Tanh = 10,
    Gelu = 11,
    GeluTanh = 12,
}

#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    None = 0,
    Layer = 1,
    Channel = 2,
}

#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    Max = 0,
    Average = 1,
    AdaptiveAverage = 2,
}

#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixel {
    U8 = 0,
    F32 = 1,
}

#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    Softmax = 0,
    Sigmoid = 1,
    None = 2,
}

#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Softmax = 0,
    Sigmoid = 1,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    pub bias: [DevicePointer; 2],
    pub residual: [DevicePointer; 2],
    pub mix: DevicePointer,
    pub output: [DevicePointer; 2],
    pub channels: i32,
    pub activation: Activation,
    pub mix_kind: Mix,
    pub negative_slope: f32,
    pub scale: [DevicePointer; 2],
    pub slopes: [DevicePointer; 2],
    pub scale_positions: i32,
    pub output_pitch: i32,
    pub branches: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Conv2dParams {
    pub epilogue: Epilogue,
    pub input: [DevicePointer; 2],
    pub weight: [DevicePointer; 2],
    pub workspace: DevicePointer,
    pub tickets: DevicePointer,
    pub batch: i32,
    pub in_h: i32,
    pub in_w: i32,
    pub in_channels: i32,
    pub out_h: i32,
    pub out_w: i32,
    pub kernel_h: i32,
    pub kernel_w: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_top: i32,
    pub pad_left: i32,
    pub dilation_h: i32,
    pub dilation_w: i32,
    pub groups: i32,
    pub splits: i32,
    pub projection: [DevicePointer; 2],
    pub projection_h: i32,
    pub projection_w: i32,
    pub projection_channels: i32,
    pub projection_stride_h: i32,
    pub projection_stride_w: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub pixels: DevicePointer,
    pub image_stride: i64,
    pub row_stride: i64,
    pub column_stride: i64,
    pub channel_stride: i64,
    pub pixel: Pixel,
    pub channels: i32,
    pub height: i32,
    pub width: i32,
    pub scale: [f32; 4],
    pub shift: [f32; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Conv2dStemParams {
    pub epilogue: Epilogue,
    pub image: Image,
    pub weight: [DevicePointer; 2],
    pub batch: i32,
    pub out_h: i32,
    pub out_w: i32,
    pub kernel_h: i32,
    pub kernel_w: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_top: i32,
    pub pad_left: i32,
    pub dilation_h: i32,
    pub dilation_w: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pool2dParams {
    pub epilogue: Epilogue,
    pub input: [DevicePointer; 2],
    pub batch: i32,
    pub in_h: i32,
    pub in_w: i32,
    pub out_h: i32,
    pub out_w: i32,
    pub kernel_h: i32,
    pub kernel_w: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_top: i32,
    pub pad_left: i32,
    pub kind: Pool,
    pub counted_top: i32,
    pub counted_left: i32,
    pub counted_bottom: i32,
    pub counted_right: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Upsample2dParams {
    pub epilogue: Epilogue,
    pub input: [DevicePointer; 2],
    pub batch: i32,
    pub in_h: i32,
    pub in_w: i32,
    pub factor_h: i32,
    pub factor_w: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ConcatParams {
    pub input: [[DevicePointer; 2]; CONCAT_INPUTS],
    pub output: [DevicePointer; 2],
    pub positions: i64,
    pub pitch: [i32; CONCAT_INPUTS],
    pub begin: [i32; CONCAT_INPUTS + 1],
    pub inputs: i32,
    pub first_channel: i32,
    pub output_pitch: i32,
    pub branches: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SqueezeExciteParams {
    pub input: [DevicePointer; 2],
    pub squeeze_weight: [DevicePointer; 2],
    pub squeeze_bias: [DevicePointer; 2],
    pub excite_weight: [DevicePointer; 2],
    pub excite_bias: [DevicePointer; 2],
    pub output: [DevicePointer; 2],
    pub workspace: DevicePointer,
    pub tickets: DevicePointer,
    pub positions_per_image: i64,
    pub batch: i32,
    pub channels: i32,
    pub squeezed: i32,
    pub excited: i32,
    pub branches: i32,
    pub parts: i32,
    pub squeeze_activation: Activation,
    pub excite_activation: Activation,
    pub squeeze_negative_slope: f32,
    pub excite_negative_slope: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IdentityParams {
    pub epilogue: Epilogue,
    pub input: [DevicePointer; 2],
    pub positions: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AwsUnitDenseParams {
    pub epilogue: Epilogue,
    pub input: [DevicePointer; 2],
    pub weight: [DevicePointer; 2],
    pub workspace: DevicePointer,
    pub tickets: DevicePointer,
    pub positions: i64,
    pub splits: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AwsUnitGateMeansParams {
    pub input: [DevicePointer; 2],
    pub means: DevicePointer,
    pub positions_per_image: i64,
    pub batch: i32,
    pub channels: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AwsUnitGateCoefficientsParams {
    pub means: DevicePointer,
    pub squeeze_weight: DevicePointer,
    pub squeeze_bias: DevicePointer,
    pub excite_weight: DevicePointer,
    pub excite_bias: DevicePointer,
    pub coefficients: DevicePointer,
    pub batch: i32,
    pub channels: i32,
    pub squeezed: i32,
    pub gate: Gate,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AwsUnitGateMixParams {
    pub input: [DevicePointer; 2],
    pub output: [DevicePointer; 2],
    pub coefficients: DevicePointer,
    pub positions_per_image: i64,
    pub batch: i32,
    pub channels: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub input: DevicePointer,
    pub weight: DevicePointer,
    pub bias: DevicePointer,
    pub logits: DevicePointer,
    pub probabilities: DevicePointer,
    pub labels: i32,
    pub score: Score,
}

impl Head {
    /// In a place that no block serves.
    pub const ABSENT: Head =
        Head { input: 0, weight: 0, bias: 0, logits: 0, probabilities: 0, labels: 0, score: Score::None };
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeadParams {
    pub head: [Head; HEADS],
    pub positions_per_image: i64,
    pub batch: i32,
    pub channels: i32,
    pub heads: i32,
    pub pooled: i32,
    pub labels_per_block: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeadScoreParams {
    pub head: Head,
    pub positions_per_image: i64,
    pub batch: i32,
    pub channels: i32,
    pub pitch: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ImageToNhwcParams {
    pub image: Image,
    pub output: DevicePointer,
    pub batch: i32,
    pub reserved: i32,
}

// SAFETY: `repr(C)`; the sizes and offsets asserted below are those that abi.h asserts, and leave no room for padding.
unsafe impl Params for Conv2dParams {}
// SAFETY: as above.
unsafe impl Params for Conv2dStemParams {}
// SAFETY: as above.
unsafe impl Params for Pool2dParams {}
// SAFETY: as above.
unsafe impl Params for Upsample2dParams {}
// SAFETY: as above.
unsafe impl Params for ConcatParams {}
// SAFETY: as above.
unsafe impl Params for SqueezeExciteParams {}
// SAFETY: as above.
unsafe impl Params for IdentityParams {}
// SAFETY: as above.
unsafe impl Params for AwsUnitDenseParams {}
// SAFETY: as above.
unsafe impl Params for AwsUnitGateMeansParams {}
// SAFETY: as above.
unsafe impl Params for AwsUnitGateCoefficientsParams {}
// SAFETY: as above.
unsafe impl Params for AwsUnitGateMixParams {}
// SAFETY: as above.
unsafe impl Params for HeadParams {}
// SAFETY: as above.
unsafe impl Params for HeadScoreParams {}
// SAFETY: as above.
unsafe impl Params for ImageToNhwcParams {}

/// The assertions of abi.h, in its order and its words; a test compares them.
macro_rules! layout {
    ($($ty:ident $size:literal { $($field:ident $offset:literal),* })*) => {
        const _: () = {
            $(
                assert!(size_of::<$ty>() == $size);
                $(assert!(offset_of!($ty, $field) == $offset);)*
            )*
        };
        #[cfg(test)]
        const LAYOUT: &[(&str, usize, &[(&str, usize)])] =
            &[$((stringify!($ty), $size, &[$((stringify!($field), $offset)),*])),*];
    };
}
layout! {
    Epilogue 120 {
        residual 16, mix 32, output 40, channels 56, negative_slope 68, scale 72, slopes 88, scale_positions 104,
        reserved 116
    }
    Conv2dParams 272 {
        input 120, weight 136, workspace 152, tickets 160, batch 168, splits 228, projection 232, projection_h 248,
        reserved 268
    }
    Image 88 { pixel 40, scale 56 }
    Conv2dStemParams 272 { image 120, weight 208, batch 224 }
    Pool2dParams 200 { input 120, kind 180, counted_right 196 }
    Upsample2dParams 160 { batch 136 }
    ConcatParams 432 { positions 272, begin 344, inputs 412 }
    SqueezeExciteParams 160 { workspace 96, batch 120 }
    IdentityParams 144 { positions 136 }
    AwsUnitDenseParams 184 { positions 168 }
    AwsUnitGateMeansParams 40 {}
    AwsUnitGateCoefficientsParams 64 {}
    AwsUnitGateMixParams 56 {}
    Head 48 { labels 40 }
    HeadParams 224 { positions_per_image 192 }
    HeadScoreParams 72 { pitch 64 }
    ImageToNhwcParams 104 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../kernels/abi.h");

    /// `AwsUnitGateMix` as abi.h spells it: `aws_unit_gate_mix`.
    fn snake(name: &str) -> String {
        let mut out = String::new();
        for (i, c) in name.char_indices() {
            if c.is_uppercase() && i > 0 {
                out.push('_');
            }
            out.extend(c.to_lowercase());
        }
        out
    }

    #[test]
    fn both_languages_assert_the_same_layout() {
        let mut expected = Vec::new();
        for (ty, size, fields) in LAYOUT {
            let ty = format!("awsnet_{}", snake(ty));
            expected.push(format!("AWSNET_ABI_SIZE({ty}, {size});"));
            for (field, offset) in *fields {
                expected.push(format!("AWSNET_ABI_OFFSET({ty}, {field}, {offset});"));
            }
        }
        let found: Vec<&str> = HEADER.lines().filter(|line| line.starts_with("AWSNET_ABI_")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_and_enumerators_stand_in_the_header_in_the_same_order() {
        // Each struct's fields as Rust declares them, searched for one behind the other in the C struct.
        let source = include_str!("abi.rs");
        for (ty, ..) in LAYOUT {
            let body = |text: &'static str, start: &str| -> &'static str {
                let from = text.find(start).unwrap_or_else(|| panic!("{start} is missing"));
                let length = text[from..].find('}').expect("a closing brace");
                &text[from..from + length]
            };
            let c = body(HEADER, &format!("struct awsnet_{} {{", snake(ty)));
            let rust = body(source, &format!("pub struct {ty} {{"));
            let mut rest = c;
            for field in
                rust.lines().skip(1).filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next())
            {
                let declared = [" ", "*"].iter().find_map(|before| {
                    [";", ",", "["].iter().find_map(|after| rest.find(&format!("{before}{field}{after}")))
                });
                rest = &rest
                    [declared.unwrap_or_else(|| panic!("{ty}.{field} is missing or out of order in C"))..];
            }
        }
    }
}
