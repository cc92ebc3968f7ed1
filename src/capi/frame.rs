//! Pictures in the caller's memory.

use super::failure::Failure;
use super::pointers::{Versioned, read_struct, slice};
use crate::image::{Frame, PixelFormat, Plane};

/// How the pixels of a frame lie in memory, a byte a value: one of AWSNET_FRAME_*.
pub type awsnet_frame_format = i32;

/// Red, green, blue.
pub const AWSNET_FRAME_RGB: i32 = 0;
/// Blue, green, red.
pub const AWSNET_FRAME_BGR: i32 = 1;
/// Red, green, blue, and a fourth value that is not read.
pub const AWSNET_FRAME_RGBA: i32 = 2;
/// Blue, green, red, and a fourth value that is not read.
pub const AWSNET_FRAME_BGRA: i32 = 3;
/// One value for all three.
pub const AWSNET_FRAME_GREY: i32 = 4;
/// A plane of luma, then one of chroma with half the rows and columns, rounded up: Cb and Cr in turn. ITU-R BT.601, luma from
/// 16 to 235.
pub const AWSNET_FRAME_NV12: i32 = 5;
/// As AWSNET_FRAME_NV12, but Cb and Cr have a plane each.
pub const AWSNET_FRAME_I420: i32 = 6;

/// A picture in the caller's memory, row by row from the top, of which nothing is copied: awsnet_frame frame =
/// AWSNET_FRAME_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_frame {
    /// sizeof(awsnet_frame)
    pub struct_size: u32,
    /// How the pixels lie.
    pub format: awsnet_frame_format,
    /// Pixels in a row, from 1 to 2^24.
    pub width: u32,
    /// Rows, from 1 to 2^24.
    pub height: u32,
    /// The first row of each plane that the format has; NULL for others. Where planes[1] of AWSNET_FRAME_NV12 or
    /// AWSNET_FRAME_I420 is NULL, chroma lies behind height rows of luma, in as many bytes a row for NV12 and half as many,
    /// rounded up, for I420; where a row of NV12's chroma, of odd width, needs one more, it has that.
    pub planes: [*const u8; 3],
    /// Bytes from there to the end of the last row of the plane, or more; for chroma that lies behind luma, all of it in
    /// sizes[0], and 0.
    pub sizes: [usize; 3],
    /// Bytes from one row to the next; 0 where there is nothing between rows.
    pub row_strides: [usize; 3],
}

// SAFETY: `repr(C)`, integers and pointers only, the size first.
unsafe impl Versioned for awsnet_frame {
    const FIRST_SIZE: usize = 16 + 9 * size_of::<usize>();
}

/// The caller's frame.
///
/// # Safety
///
/// As for [`read_struct`]; the planes have the bytes that the struct says, for `'a`.
pub(super) unsafe fn to_frame<'a>(frame: *const awsnet_frame) -> Result<Frame<'a>, Failure> {
    // SAFETY: passed on.
    let frame = unsafe { read_struct(frame, "frame") }?;
    let (format, bytes, planes) = match frame.format {
        AWSNET_FRAME_RGB => (PixelFormat::Rgb, 3, 1),
        AWSNET_FRAME_BGR => (PixelFormat::Bgr, 3, 1),
        AWSNET_FRAME_RGBA => (PixelFormat::Rgba, 4, 1),
        AWSNET_FRAME_BGRA => (PixelFormat::Bgra, 4, 1),
        AWSNET_FRAME_GREY => (PixelFormat::Grey, 1, 1),
        AWSNET_FRAME_NV12 => (PixelFormat::Nv12, 1, 2),
        AWSNET_FRAME_I420 => (PixelFormat::I420, 1, 3),
        unknown => {
            return Err(Failure::argument("frame.format", "one of AWSNET_FRAME_*", &unknown.to_string()));
        }
    };
    let (width, height) = (frame.width as usize, frame.height as usize);
    // Chroma with nothing between its rows; what is no such width is refused by `Frame`.
    let dense = |plane: usize| match (plane, format) {
        (0, _) => width.saturating_mul(bytes),
        (_, PixelFormat::Nv12) => 2 * width.div_ceil(2),
        _ => width.div_ceil(2),
    };
    let stride = |plane: usize| match frame.row_strides[plane] {
        0 => dense(plane),
        stride => stride,
    };
    let given = if planes > 1 && frame.planes[1].is_null() { 1 } else { planes };
    for plane in given..3 {
        let unused =
            frame.planes[plane].is_null() && frame.sizes[plane] == 0 && frame.row_strides[plane] == 0;
        if !unused {
            let place = format!("frame.planes[{plane}]");
            let expected = format!("NULL, with a size and a row stride of 0, behind {given} planes");
            return Err(Failure::argument(&place, &expected, "another"));
        }
    }
    let bytes = |plane: usize| {
        // SAFETY: passed on.
        unsafe { slice(frame.planes[plane], frame.sizes[plane], &format!("frame.planes[{plane}]")) }
    };
    if given < planes || planes == 1 {
        return Ok(Frame::with_row_stride(format, bytes(0)?, width, height, stride(0))?);
    }
    let mut all = [Plane::default(); 3];
    for (plane, to) in all.iter_mut().enumerate().take(planes) {
        *to = Plane { bytes: bytes(plane)?, row_stride: stride(plane) };
    }
    Ok(Frame::from_planes(format, &all[..planes], width, height)?)
}
