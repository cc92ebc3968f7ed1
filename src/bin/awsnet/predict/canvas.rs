//! A picture to draw on: filled and outlined rectangles, and text.
//!
//! Text is set in Noto Sans Mono, whose glyphs the crate noto-sans-mono-bitmap holds as coverage, a byte a pixel, 16 or 32
//! pixels high. Other heights are interpolated from them. A character that it lacks is drawn as a question mark.

use awsnet::image::Picture;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

pub type Colour = [u8; 3];

/// Pixels from the left and from the top; may lie outside the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
}

impl Rect {
    /// The pixels that both have.
    pub fn overlap(&self, other: &Rect) -> i64 {
        let along = |a: i64, b: i64, c: i64, d: i64| (b.min(d) - a.max(c)).max(0);
        along(self.x, self.x + self.width, other.x, other.x + other.width)
            * along(self.y, self.y + self.height, other.y, other.y + other.height)
    }
}

/// RGB pixels, row by row from the top.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A black canvas that holds `picture` in its upper left corner, each of its pixels as a square of `enlarged` pixels a
    /// side. The canvas is as large as that needs, and at least `width` by `height`.
    pub fn of(picture: &Picture, enlarged: usize, width: usize, height: usize) -> Self {
        let (columns, rows) = (picture.width() as usize, picture.height() as usize);
        let width = width.max(columns * enlarged);
        let height = height.max(rows * enlarged);
        let mut pixels = vec![0; width * height * 3];
        for y in 0..rows * enlarged {
            let row = &picture.pixels()[y / enlarged * columns * 3..][..columns * 3];
            let line = &mut pixels[y * width * 3..][..columns * enlarged * 3];
            for (square, pixel) in line.chunks_exact_mut(enlarged * 3).zip(row.chunks_exact(3)) {
                square.chunks_exact_mut(3).for_each(|to| to.copy_from_slice(pixel));
            }
        }
        Canvas { width, height, pixels }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Mixes a colour into a pixel; `opacity` from 0 to 1.
    fn mix(&mut self, x: i64, y: i64, colour: Colour, opacity: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width || y >= self.height {
            return;
        }
        for (to, from) in self.pixels[(y * self.width + x) * 3..][..3].iter_mut().zip(colour) {
            *to = (f32::from(*to) + (f32::from(from) - f32::from(*to)) * opacity).round() as u8;
        }
    }

    /// Fills what of a rectangle lies in the picture.
    pub fn fill(&mut self, rect: Rect, colour: Colour, opacity: f32) {
        let columns = rect.x.max(0)..(rect.x + rect.width).min(self.width as i64);
        for y in rect.y.max(0)..(rect.y + rect.height).min(self.height as i64) {
            columns.clone().for_each(|x| self.mix(x, y, colour, opacity));
        }
    }

    /// The edge of a rectangle, `thickness` pixels inwards.
    pub fn outline(&mut self, rect: Rect, thickness: i64, colour: Colour) {
        let Rect { x, y, width, height } = rect;
        let thickness = thickness.min(width / 2).min(height / 2).max(1);
        let sides = [
            Rect { height: thickness, ..rect },
            Rect { y: y + height - thickness, height: thickness, ..rect },
            Rect { width: thickness, ..rect },
            Rect { x: x + width - thickness, width: thickness, ..rect },
        ];
        sides.into_iter().for_each(|side| self.fill(side, colour, 1.0));
    }

    /// A line of text `height` pixels high, its upper left corner at `x`, `y`.
    pub fn text(&mut self, x: i64, y: i64, height: i64, text: &str, colour: Colour) {
        let advance = text_width(height, 1);
        for (place, character) in text.chars().enumerate() {
            self.glyph(x + place as i64 * advance, y, height, character, colour);
        }
    }

    fn glyph(&mut self, x: i64, y: i64, height: i64, character: char, colour: Colour) {
        let size = raster(height);
        let glyph = |character| get_raster(character, FontWeight::Regular, size);
        let Some(glyph) = glyph(character).or_else(|| glyph('?')) else { return };
        let rows: Vec<&[u8]> = glyph.rows().collect();
        let scale = size.val() as f32 / height as f32;
        let coverage = |column: i64, row: i64| {
            let row = usize::try_from(row).ok().and_then(|row| rows.get(row));
            let value = row.zip(usize::try_from(column).ok()).and_then(|(row, column)| row.get(column));
            value.map_or(0.0, |&value| f32::from(value) / 255.0)
        };
        for down in 0..height {
            for across in 0..text_width(height, 1) {
                // The middle of a pixel, among the middles of the glyph's.
                let (column, row) = ((across as f32 + 0.5) * scale - 0.5, (down as f32 + 0.5) * scale - 0.5);
                let (left, top) = (column.floor(), row.floor());
                let (right, low) = (column - left, row - top);
                let (left, top) = (left as i64, top as i64);
                let upper = coverage(left, top) * (1.0 - right) + coverage(left + 1, top) * right;
                let lower = coverage(left, top + 1) * (1.0 - right) + coverage(left + 1, top + 1) * right;
                self.mix(x + across, y + down, colour, upper * (1.0 - low) + lower * low);
            }
        }
    }
}

/// The glyphs that a height is made of.
fn raster(height: i64) -> RasterHeight {
    if height <= RasterHeight::Size16.val() as i64 { RasterHeight::Size16 } else { RasterHeight::Size32 }
}

/// The pixels that so many characters take, one beside the other.
pub fn text_width(height: i64, characters: usize) -> i64 {
    let size = raster(height);
    let one = (get_raster_width(FontWeight::Regular, size) as i64 * height + size.val() as i64 - 1)
        / size.val() as i64;
    one * characters as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32) -> Picture {
        Picture::from_rgb(width, height, vec![100; (width * height * 3) as usize]).expect("a picture")
    }

    #[test]
    fn a_picture_is_enlarged_by_squares_and_the_rest_is_black() {
        let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).expect("a picture");
        let canvas = Canvas::of(&picture, 2, 5, 3);
        assert_eq!((canvas.width(), canvas.height()), (5, 3));
        let row = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6, 0, 0, 0];
        assert_eq!(canvas.pixels(), [row, row, [0; 15]].concat());
    }

    #[test]
    fn what_lies_outside_is_not_drawn() {
        let far = i64::from(u32::MAX) * 4;
        let cases = [
            Rect { x: -far, y: -far, width: 2 * far, height: 2 * far },
            Rect { x: -5, y: -5, width: 3, height: 3 },
            Rect { x: 8, y: 8, width: far, height: far },
            Rect { x: 2, y: 2, width: 0, height: -1 },
        ];
        for rect in cases {
            let mut canvas = Canvas::of(&grey(8, 8), 1, 0, 0);
            canvas.fill(rect, [0; 3], 1.0);
            let black = canvas.pixels().iter().filter(|&&value| value == 0).count();
            assert_eq!(black, if rect.x == -far { 8 * 8 * 3 } else { 0 }, "{rect:?}");
            canvas.text(rect.x, rect.y, 16, "text", [255; 3]);
        }
    }

    #[test]
    fn text_covers_its_own_rectangle_only_and_unknown_characters_are_question_marks() {
        for height in [16, 23, 32, 75] {
            let draw = |text: &str| {
                let mut canvas = Canvas::of(&grey(200, 100), 1, 0, 0);
                canvas.text(10, 5, height, text, [255; 3]);
                canvas.pixels().to_vec()
            };
            let pixels = draw("M?");
            assert_eq!(pixels, draw("M\u{1f600}"), "{height}");
            let inside = Rect { x: 10, y: 5, width: text_width(height, 2), height };
            let drawn = pixels.chunks_exact(3).enumerate().filter(|(_, pixel)| *pixel != [100; 3]);
            let mut count = 0;
            for (index, _) in drawn {
                let pixel = Rect { x: index as i64 % 200, y: index as i64 / 200, width: 1, height: 1 };
                assert_eq!(inside.overlap(&pixel), 1, "{height}: {pixel:?}");
                count += 1;
            }
            assert!(count > height * height / 16, "{height}: {count}");
        }
    }
}
