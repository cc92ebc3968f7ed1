//! Elements of an SVG, as text, and how much room a text takes.
//!
//! Lengths are in points, to a hundredth. Text that is given is escaped; attributes and contents stand as they are.

pub fn line(x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, width: f64) -> String {
    let place = format!(r#"x1="{x1:.2}" y1="{y1:.2}" x2="{x2:.2}" y2="{y2:.2}""#);
    format!(r#"<line {place} stroke="{colour}" stroke-width="{width:.2}"/>"#) + "\n"
}

/// A rectangle at x, y, of width, height; `content` as it stands in the element.
pub fn rect([x, y, w, h]: [f64; 4], fill: &str, content: &str) -> String {
    let place = format!(r#"x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}""#);
    format!(r#"<rect {place} fill="{fill}">{content}</rect>"#) + "\n"
}

pub fn polygon(fill: &str, corners: &[(f64, f64)]) -> String {
    let points: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
    format!(r#"<polygon points="{}" fill="{fill}"/>"#, points.join(" ")) + "\n"
}

/// Text on a base line; `attributes` as they stand in the tag.
pub fn text(x: f64, y: f64, size: f64, fill: &str, attributes: &str, content: &str) -> String {
    let place = format!(r#"x="{x:.2}" y="{y:.2}" font-size="{size:.2}""#);
    let space = if attributes.is_empty() { "" } else { " " };
    format!(r#"<text {place} fill="{fill}"{space}{attributes}>{}</text>"#, escape(content)) + "\n"
}

/// The text without control characters, marks of reading direction, and what XML does not allow.
pub fn clean(text: &str) -> String {
    let wanted = |c: &char| match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    };
    text.chars().filter(wanted).collect()
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The text with its middle left out, as far as needed to fit into `room` points.
pub fn cut(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_string();
    }
    let chars: Vec<char> = text.chars().collect();
    let shortened = |kept: usize| {
        let (head, tail) = (&chars[..kept.div_ceil(2)], &chars[chars.len() - kept / 2..]);
        head.iter().chain(&['…']).chain(tail).collect::<String>()
    };
    let kept = (1..chars.len()).take_while(|kept| text_width(&shortened(*kept), size) <= room).last();
    shortened(kept.unwrap_or(0))
}

/// About how wide a sans-serif font sets the text, rather too wide than too narrow.
pub fn text_width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' => 0.34,
        'f' | 'r' | 't' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 1.0,
        'A'..='Z' | '_' => 0.72,
        '\u{0}'..='\u{10ff}' => 0.57,
        _ => 1.0,
    };
    size * text.chars().map(em).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_both_ends() {
        let short = cut("backbone.stages.3.blocks.11.conv2", 6.0, 60.0);
        assert!(short.starts_with("backbone") && short.ends_with(".conv2") && short.contains('…'), "{short}");
        assert!(text_width(&short, 6.0) <= 60.0);
        assert_eq!(cut("conv1", 6.0, 60.0), "conv1");
    }
}
