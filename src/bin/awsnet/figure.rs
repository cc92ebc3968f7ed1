//! A figure of what the tasks borrow: over depth, where and to what extent each task borrows from the other.
//!
//! The figure is an SVG whose unit is the point, one journal column (85 mm) wide; many units make it wider, and
//! the 60 of a deep network fill the width of a page. From top to bottom:
//!
//! ```text
//! title      model, number and kinds of the AWS-Units
//! legend     what is emotion's, what is au's
//! branches   the two branches, arrows from lender to borrower as wide as the share; where there is room
//! plot       the share, 0..1: mean over channels, bars from the 10th to the 90th percentile
//! layers     the layer before each AWS-Unit, in order of depth
//! notes      what needs saying: gates, gaps
//! ```
//!
//! The directions differ in colour, marker and dash, so that they are told apart in grey print and with any colour
//! vision. Hovering over a unit's column shows its numbers. The same input gives the same bytes.

use super::sharing::UnitShare;
use super::svg::{clean, cut, escape, line, polygon, rect, text, text_width};

/// Width of a journal column, 85 mm in points.
const COLUMN: f64 = 241.0;
/// Left of the plot: the axis with its numbers, the names of the branches.
const MARGIN_LEFT: f64 = 32.0;
/// Right of the plot: what the ends of the axis mean.
const MARGIN_RIGHT: f64 = 32.0;
/// Least distance of two units: a line of vertical text at `SMALL`, and air.
const PITCH_MIN: f64 = 7.2;
/// Least distance at which the two arrows of a unit can be told apart.
const PITCH_ARROWS: f64 = 10.0;
const PLOT_HEIGHT: f64 = 104.0;

/// Font sizes.
const LARGE: f64 = 8.0;
const NORMAL: f64 = 6.5;
const SMALL: f64 = 6.0;
/// From one line of notes to the next.
const LINE: f64 = 8.0;
/// A layer's name is cut to this width, in points.
const NAME_WIDTH: f64 = 84.0;

const INK: &str = "#222222";
const MUTED: &str = "#555555";
const GRID: &str = "#dddddd";
const MIDDLE: &str = "#999999";
const SHADE: &str = "#ececec";
const WHITE: &str = "#ffffff";

/// The names of the two branches.
pub type Names = [String; 2];

/// How one direction of borrowing is drawn.
struct Direction {
    colour: &'static str,
    /// Of the line, as `stroke-dasharray`.
    dash: &'static str,
    /// Which side of the unit's place its marks stand on.
    side: f64,
}

/// Indexed by the borrower, as `UnitShare::borrowed`. The blue prints darker than the orange in grey.
const DIRECTIONS: [Direction; 2] = [
    Direction { colour: "#004488", dash: "none", side: -1.0 },
    Direction { colour: "#d55e00", dash: "2.6 1.4", side: 1.0 },
];

/// What is drawn of one direction at one unit; each value is a share.
struct Summary {
    mean: f64,
    /// The 10th and the 90th percentile over channels, where there are several.
    spread: Option<[f64; 2]>,
    /// The number of channels that have no share.
    left_out: usize,
}

/// Where the parts stand, in points.
struct Layout {
    width: f64,
    pitch: f64,
    /// The lines of emotion and au, where there is room for the arrows between them.
    branches: Option<[f64; 2]>,
    plot_top: f64,
}

impl Layout {
    fn new(units: usize) -> Self {
        let room = COLUMN - MARGIN_LEFT - MARGIN_RIGHT;
        let pitch = (room / units.max(1) as f64).max(PITCH_MIN);
        let width = MARGIN_LEFT + pitch * units.max(1) as f64 + MARGIN_RIGHT;
        let branches = (pitch >= PITCH_ARROWS).then_some([44.0, 68.0]);
        Layout { width, pitch, branches, plot_top: if branches.is_some() { 80.0 } else { 43.0 } }
    }

    fn plot_right(&self) -> f64 {
        self.width - MARGIN_RIGHT
    }

    fn plot_bottom(&self) -> f64 {
        self.plot_top + PLOT_HEIGHT
    }

    /// The middle of a unit's column.
    fn x(&self, unit: usize) -> f64 {
        MARGIN_LEFT + self.pitch * (unit as f64 + 0.5)
    }

    /// Where a direction's marks stand in a unit's column: a little off the middle, so that bars do not cover
    /// one another.
    fn x_mark(&self, unit: usize, direction: &Direction) -> f64 {
        self.x(unit) + direction.side * (0.14 * self.pitch).min(2.5)
    }

    fn y(&self, share: f64) -> f64 {
        self.plot_bottom() - PLOT_HEIGHT * share
    }
}

/// Draws the shares of a model's AWS-Units, given in order of depth, as a complete SVG document.
///
/// A share that is not a number (both weights are 0) is left out, and the figure says so. Any text may be given:
/// what cannot stand in XML or could change the reading direction is removed; a long name is cut in the picture
/// and whole in the `<title>` of its column.
pub fn svg(title: &str, names: &Names, units: &[UnitShare]) -> String {
    let layout = Layout::new(units.len());
    let summaries: Vec<_> = units.iter().map(|u| [0, 1].map(|to| summary(u, to))).collect();
    let title = clean(title);
    let heading = if title.trim().is_empty() { "AWS-Net" } else { &title };

    // Bold letters are a tenth wider.
    let short = cut(heading, LARGE * 1.1, layout.width - 8.0);
    let mut body = text(4.0, 10.0, LARGE, INK, r#"font-weight="bold""#, &short);
    body += &text(4.0, 19.5, NORMAL, MUTED, "", &kinds(units));
    let mut bottom = 36.0;
    if units.is_empty() {
        let nothing = "Nothing to draw: neither task borrows from the other.";
        body += &text(4.0, bottom, NORMAL, INK, "", nothing);
    } else {
        let (layers, layers_bottom) = layer_names(&layout, units);
        body += &columns(&layout, names, units, &summaries);
        body += &legend(&layout, names);
        body += &branches(&layout, names, &summaries);
        body += &axes(&layout);
        body += &curves(&layout, &summaries);
        body += &layers;
        bottom = layers_bottom + 9.0;
        let middle = (MARGIN_LEFT + layout.plot_right()) / 2.0;
        let axis = "AWS-Unit behind layer, from input to output";
        body += &text(middle, bottom, NORMAL, INK, r#"text-anchor="middle""#, axis);
        bottom += 3.0;
        for note in notes(&layout, units, &summaries) {
            bottom += LINE;
            body += &text(4.0, bottom, SMALL, MUTED, "", &note);
        }
    }

    let size = format!(r#"width="{:.2}pt" height="{:.2}pt""#, layout.width, bottom + 5.0);
    let view = format!("0 0 {:.2} {:.2}", layout.width, bottom + 5.0);
    let fonts = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
    let background = rect([0.0, 0.0, layout.width, bottom + 5.0], WHITE, "");
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="{view}" role="img" font-family="{fonts}">
<title>{}: what {} and {} borrow from one another</title>
<desc>{}</desc>
{background}{body}</svg>
"#,
        escape(heading),
        escape(&names[0]),
        escape(&names[1]),
        escape(&description(names, units, &summaries)),
    )
}

/// What is drawn of the share borrowed by `to`; nothing where no channel has a share.
fn summary(unit: &UnitShare, to: usize) -> Option<Summary> {
    let mut shares = unit.borrowed[to].clone();
    shares.retain(|share| share.is_finite());
    shares.sort_by(f32::total_cmp);
    let left_out = unit.borrowed[to].len() - shares.len();
    let mean = f64::from(unit.mean(to)).clamp(0.0, 1.0);
    let spread = (shares.len() > 1).then(|| [0.1, 0.9].map(|p| percentile(&shares, p).clamp(0.0, 1.0)));
    mean.is_finite().then_some(Summary { mean, spread, left_out })
}

/// The value at `p`, 0..=1, of sorted values, linear between two of them.
fn percentile(sorted: &[f32], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let [below, above] = [place.floor(), place.ceil()].map(|i| f64::from(sorted[i as usize]));
    below + (above - below) * place.fract()
}

/// "9 AWS-Units, kind channel", or "9 AWS-Units: 8 channel, 1 gate".
fn kinds(units: &[UnitShare]) -> String {
    let count = |kind: &str| units.iter().filter(|unit| unit.kind == kind).count();
    let mut kinds = vec!["layer", "channel", "dense", "gate"];
    kinds.retain(|kind| count(kind) > 0);
    let total = format!("{} AWS-Unit{}", units.len(), if units.len() == 1 { "" } else { "s" });
    if let [kind] = kinds[..] {
        return format!("{total}, kind {kind}");
    }
    let counts: Vec<String> = kinds.iter().map(|kind| format!("{} {kind}", count(kind))).collect();
    total + if counts.is_empty() { "" } else { ": " } + &counts.join(", ")
}

/// Each unit's column: shaded where a direction has no share, else invisible; hovering shows its title.
fn columns(
    layout: &Layout,
    names: &Names,
    units: &[UnitShare],
    summaries: &[[Option<Summary>; 2]],
) -> String {
    let top = layout.branches.map_or(layout.plot_top, |[top, _]| top);
    let mut out = String::new();
    for (i, (unit, summary)) in units.iter().zip(summaries).enumerate() {
        let area = [layout.x(i) - layout.pitch / 2.0, top, layout.pitch, layout.plot_bottom() - top];
        let fill = if summary.iter().any(Option::is_none) { SHADE } else { WHITE };
        out += &rect(area, fill, &format!("<title>{}</title>", escape(&sentence(names, unit, summary))));
    }
    out
}

/// A sample of each direction's line and marker, with what it means.
fn legend(layout: &Layout, names: &Names) -> String {
    let mut out = String::new();
    for (to, direction) in DIRECTIONS.iter().enumerate() {
        let x = 4.0 + to as f64 * 114.0;
        out += &path(direction, &format!("M{x:.2} 30 L{:.2} 30", x + 16.0));
        out += &marker(to, x + 8.0, 30.0, layout);
        let words = format!("{} borrows from {}", names[to], names[1 - to]);
        out += &text(x + 19.0, 32.3, NORMAL, INK, "", &cut(&words, NORMAL, 92.0));
    }
    out
}

/// The two branches, with an arrow into the borrower at each unit, as wide as its share.
fn branches(layout: &Layout, names: &Names, summaries: &[[Option<Summary>; 2]]) -> String {
    let Some([top, bottom]) = layout.branches else { return String::new() };
    let mut out = String::new();
    for (branch, y) in names.iter().zip([top, bottom]) {
        let end = layout.plot_right() + 3.5;
        out += &line(MARGIN_LEFT, y, end - 3.0, y, INK, 0.8);
        out += &polygon(INK, &[(end, y), (end - 4.0, y - 1.8), (end - 4.0, y + 1.8)]);
        out += &text(
            MARGIN_LEFT - 4.0,
            y + 2.2,
            NORMAL,
            INK,
            r#"text-anchor="end""#,
            &cut(branch, NORMAL, MARGIN_LEFT - 4.0),
        );
    }
    // The room of one arrow; its head stands out on both sides of the shaft.
    let room = (0.45 * layout.pitch).min(12.0);
    let flare = (0.15 * room).clamp(0.7, 1.4);
    for (i, unit) in summaries.iter().enumerate() {
        for (to, direction) in DIRECTIONS.iter().enumerate() {
            let Some(summary) = unit[to].as_ref().filter(|s| s.mean > 0.0) else { continue };
            let (start, tip) = if to == 0 { (bottom - 1.2, top + 1.2) } else { (top + 1.2, bottom - 1.2) };
            let neck = tip + if to == 0 { 4.5 } else { -4.5 };
            let x = layout.x(i) + direction.side * room / 2.0;
            let shaft = summary.mean * (room - 2.0 * flare) / 2.0;
            let head = shaft + flare;
            let right = [(x + shaft, start), (x + shaft, neck), (x + head, neck), (x, tip)];
            let left = [(x - head, neck), (x - shaft, neck), (x - shaft, start)];
            out += &polygon(direction.colour, &[&right[..], &left[..]].concat());
        }
    }
    out
}

/// The share's axis with its grid, and what its ends and its middle mean.
fn axes(layout: &Layout) -> String {
    let (left, right) = (MARGIN_LEFT, layout.plot_right());
    let (top, bottom) = (layout.plot_top, layout.plot_bottom());
    let mut out = String::new();
    let grid = [(0.0, "all own"), (0.25, ""), (0.5, "equal"), (0.75, ""), (1.0, "all other")];
    for (share, meaning) in grid {
        let y = layout.y(share);
        out += &line(left, y, right, y, if share == 0.5 { MIDDLE } else { GRID }, 0.5);
        out += &text(left - 4.0, y + 2.2, NORMAL, INK, r#"text-anchor="end""#, &share.to_string());
        if !meaning.is_empty() {
            out += &text(right + 3.0, y + 2.0, SMALL, MUTED, "", meaning);
        }
    }
    out += &line(left, top, left, bottom, INK, 0.6);
    out += &line(left, bottom, right, bottom, INK, 0.6);
    let turned = format!(r#"text-anchor="middle" transform="translate(8 {:.2}) rotate(-90)""#, layout.y(0.5));
    out + &text(0.0, 0.0, NORMAL, INK, &turned, "share borrowed")
}

/// Both directions: bars for the spreads, then over them a line through the means, broken where there is none,
/// with a marker on each.
fn curves(layout: &Layout, summaries: &[[Option<Summary>; 2]]) -> String {
    let (mut bars, mut curves) = (String::new(), String::new());
    for (to, direction) in DIRECTIONS.iter().enumerate() {
        let (mut data, mut markers) = (String::new(), String::new());
        let mut command = "M";
        for (i, unit) in summaries.iter().enumerate() {
            let Some(summary) = &unit[to] else {
                command = "M";
                continue;
            };
            let (x, y) = (layout.x_mark(i, direction), layout.y(summary.mean));
            if let Some([low, high]) = summary.spread {
                bars += &line(x, layout.y(low), x, layout.y(high), direction.colour, 0.7);
            }
            data += &format!("{command}{x:.2} {y:.2} ");
            markers += &marker(to, x, y, layout);
            command = "L";
        }
        curves += &(path(direction, data.trim_end()) + &markers);
    }
    bars + &curves
}

/// A full disc for what emotion borrows, an open square for what au borrows.
fn marker(to: usize, x: f64, y: f64, layout: &Layout) -> String {
    let colour = DIRECTIONS[to].colour;
    let radius = (0.2 * layout.pitch).clamp(1.4, 2.2);
    if to == 0 {
        return format!(r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius:.2}" fill="{colour}"/>"#) + "\n";
    }
    // Half a side, to look as large as the disc.
    let half = 0.85 * radius;
    let (left, top, side) = (x - half, y - half, 2.0 * half);
    let stroke = format!(r#"stroke="{colour}" stroke-width="0.9""#);
    format!(
        r#"<rect x="{left:.2}" y="{top:.2}" width="{side:.2}" height="{side:.2}" fill="{WHITE}" {stroke}/>"#
    ) + "\n"
}

/// The layers' names below the axis, and where they end: level where they fit, else slanted, else upright.
fn layer_names(layout: &Layout, units: &[UnitShare]) -> (String, f64) {
    let names: Vec<String> = units
        .iter()
        .map(|u| cut(&clean(&u.layer), SMALL, NAME_WIDTH) + if u.depends_on_image { "*" } else { "" })
        .collect();
    let widths: Vec<f64> = names.iter().map(|name| text_width(name, SMALL)).collect();
    let longest = widths.iter().fold(0.0, |a: f64, b| a.max(*b));
    let slant = std::f64::consts::FRAC_1_SQRT_2;
    let fits_slanted = widths.iter().enumerate().all(|(i, w)| w * slant + 2.0 <= layout.x(i));
    let (angle, height) = if longest + 4.0 <= layout.pitch {
        (0, SMALL)
    } else if layout.pitch * slant >= PITCH_MIN && fits_slanted {
        (-45, longest * slant + 3.0)
    } else {
        (-90, longest)
    };
    let bottom = layout.plot_bottom();
    let mut out = String::new();
    for (i, name) in names.iter().enumerate() {
        let x = layout.x(i);
        out += &line(x, bottom, x, bottom + 2.0, INK, 0.6);
        out += &if angle == 0 {
            text(x, bottom + 4.0 + 0.75 * SMALL, SMALL, INK, r#"text-anchor="middle""#, name)
        } else {
            // The end of the name stands at the tick, its middle line on the tick's.
            let turned = format!(
                r#"text-anchor="end" transform="translate({x:.2} {:.2}) rotate({angle})""#,
                bottom + 4.0
            );
            text(0.0, 0.36 * SMALL, SMALL, INK, &turned, name)
        };
    }
    (out, bottom + 4.0 + height)
}

/// What the reader has to know about these units.
fn notes(layout: &Layout, units: &[UnitShare], summaries: &[[Option<Summary>; 2]]) -> Vec<String> {
    let mut notes = Vec::new();
    if layout.branches.is_some() {
        notes.push("Arrows: into the borrower, as wide as the share.".to_string());
    }
    if summaries.iter().flatten().flatten().any(|s| s.spread.is_some()) {
        notes.push("Points: means over channels. Bars: 10th to 90th percentile.".to_string());
    }
    if units.iter().any(|u| u.depends_on_image) {
        notes.push("* Gate: the share at g = 0; it depends on the image.".to_string());
    }
    if summaries.iter().flatten().any(Option::is_none) {
        notes.push("Shaded: a task has no share here, as its weights are all 0.".to_string());
    }
    match summaries.iter().flatten().flatten().map(|s| s.left_out).sum() {
        0 => {}
        1 => notes.push("Left out: 1 channel, as its weights are all 0.".to_string()),
        n => notes.push(format!("Left out: {n} channels, as their weights are all 0.")),
    }
    notes
}

/// A unit in words: "conv1 (channel): emotion borrows 0.25, au borrows 0.31".
fn sentence(names: &Names, unit: &UnitShare, summary: &[Option<Summary>; 2]) -> String {
    let [emotion, au] = summary.each_ref().map(|summary| match summary {
        Some(summary) => format!("borrows {:.2}", summary.mean),
        None => "has no share".to_string(),
    });
    let gate = if unit.depends_on_image { " at g = 0" } else { "" };
    let [first, second] = names;
    format!("{} ({}{gate}): {first} {emotion}, {second} {au}", clean(&unit.layer), unit.kind)
}

/// The whole figure in words, for who does not see it.
fn description(names: &Names, units: &[UnitShare], summaries: &[[Option<Summary>; 2]]) -> String {
    let lines: Vec<String> = units.iter().zip(summaries).map(|(u, s)| sentence(names, u, s)).collect();
    let what =
        "The share that each task borrows from the other behind each layer, 0 to 1, mean over channels";
    format!("{what}. {}. {}", kinds(units), lines.join("; "))
}

/// A line in a direction's colour and dash.
fn path(Direction { colour, dash, .. }: &Direction, data: &str) -> String {
    let stroke = format!(r#"stroke="{colour}" stroke-width="1.1" stroke-dasharray="{dash}""#);
    format!(r#"<path d="{data}" fill="none" {stroke}/>"#) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(layer: &str, emotion: &[f32], au: &[f32]) -> UnitShare {
        let borrowed = [emotion.to_vec(), au.to_vec()];
        UnitShare { layer: layer.to_string(), kind: "channel", borrowed, depends_on_image: false }
    }

    fn names() -> Names {
        ["emotion".to_owned(), "au".to_owned()]
    }

    fn many(count: usize) -> Vec<UnitShare> {
        let share = |i: usize| (i * 37 % 101) as f32 / 100.0;
        let unit_at = |i: usize| {
            let name = format!("layer{}.{}.conv2", i / 4 + 1, i % 4);
            unit(&name, &[share(i), share(i + 1), share(i + 2)], &[share(3 * i), 0.0, 1.0])
        };
        (0..count).map(unit_at).collect()
    }

    /// An element: its name, its attributes, the text directly in it.
    struct Element {
        name: String,
        attributes: Vec<(String, String)>,
        content: String,
    }

    impl Element {
        fn get(&self, key: &str) -> Option<&str> {
            self.attributes.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
        }

        fn number(&self, key: &str) -> f64 {
            self.get(key).unwrap().trim_end_matches("pt").parse().unwrap()
        }

        /// The numbers of an attribute, whatever stands between them.
        fn numbers(&self, key: &str) -> Vec<f64> {
            let parts = self.get(key).unwrap().split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
            parts.filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
        }
    }

    fn unescape(text: &str) -> String {
        let plain = text.replace("&lt;", "").replace("&gt;", "").replace("&quot;", "").replace("&amp;", "");
        assert!(!plain.contains(['&', '<', '>']), "not escaped: {text}");
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
    }

    /// Reads the subset of XML that the figure uses, and panics at anything else.
    fn parse(svg: &str) -> Vec<Element> {
        let mut elements: Vec<Element> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let mut rest = svg;
        while let Some((before, after)) = rest.split_once('<') {
            match open.last() {
                Some(&i) => elements[i].content += &unescape(before),
                None => assert_eq!(before.trim(), ""),
            }
            let (tag, behind) = after.split_once('>').expect("a tag ends");
            rest = behind;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(elements[open.pop().expect("an open element")].name, name);
                continue;
            }
            let inner = tag.strip_suffix('/').unwrap_or(tag);
            let (name, mut list) = inner.split_once(' ').unwrap_or((inner, ""));
            let mut attributes = Vec::new();
            while let Some((key, value)) = list.split_once("=\"") {
                let (value, behind) = value.split_once('"').expect("a value ends");
                assert!(attributes.iter().all(|(k, _)| k != key), "{key} twice in {tag}");
                attributes.push((key.to_string(), unescape(value)));
                list = behind.strip_prefix(' ').unwrap_or(behind);
            }
            assert_eq!(list, "", "in {tag}");
            if inner == tag {
                open.push(elements.len());
            }
            elements.push(Element { name: name.to_string(), attributes, content: String::new() });
        }
        assert!(open.is_empty() && rest.trim().is_empty());
        elements
    }

    /// Where an element's corners are, text by its estimated width.
    fn corners(element: &Element) -> Vec<(f64, f64)> {
        let pairs = |numbers: Vec<f64>| numbers.chunks(2).map(|p| (p[0], p[1])).collect::<Vec<_>>();
        match element.name.as_str() {
            "rect" => {
                let [x, y, w, h] = ["x", "y", "width", "height"].map(|key| element.number(key));
                vec![(x, y), (x + w, y + h)]
            }
            "circle" => {
                let [x, y, r] = ["cx", "cy", "r"].map(|key| element.number(key));
                vec![(x - r, y - r), (x + r, y + r)]
            }
            "line" => pairs(["x1", "y1", "x2", "y2"].map(|key| element.number(key)).to_vec()),
            "polygon" => pairs(element.numbers("points")),
            "path" => pairs(element.numbers("d")),
            "text" => {
                let width = text_width(&element.content, element.number("font-size"));
                let start = match element.get("text-anchor") {
                    None => 0.0,
                    Some("middle") => -width / 2.0,
                    _ => -width,
                };
                let [x, y] = ["x", "y"].map(|key| element.number(key));
                let turn = match element.get("transform") {
                    None => vec![0.0; 3],
                    Some(_) => element.numbers("transform"),
                };
                let (sin, cos) = turn[2].to_radians().sin_cos();
                let place = |along: f64| (turn[0] + along * cos - y * sin, turn[1] + along * sin + y * cos);
                vec![place(x + start), place(x + start + width)]
            }
            _ => Vec::new(),
        }
    }

    /// Parses a figure and checks that everything in it is well placed.
    fn check(title: &str, units: &[UnitShare]) -> Vec<Element> {
        let figure = svg(title, &names(), units);
        assert!(!figure.contains("NaN") && !figure.contains("inf"));
        let elements = parse(&figure);
        let view = elements[0].numbers("viewBox");
        assert_eq!(view, [0.0, 0.0, elements[0].number("width"), elements[0].number("height")]);
        for element in &elements[1..] {
            for (x, y) in corners(element) {
                let inside = (0.0..=view[2]).contains(&x) && (0.0..=view[3]).contains(&y);
                assert!(inside, "{} \"{}\" at {x}, {y} of {view:?}", element.name, element.content);
            }
        }
        for unit in units {
            let start = format!("{} ({}", clean(&unit.layer), unit.kind);
            assert!(elements.iter().any(|e| e.name == "title" && e.content.starts_with(&start)), "{start}");
        }
        elements
    }

    fn texts(elements: &[Element]) -> Vec<&str> {
        elements.iter().filter(|e| e.name == "text").map(|e| e.content.as_str()).collect()
    }

    #[test]
    fn any_number_of_units_is_well_formed_and_inside() {
        for count in [0, 1, 2, 3, 4, 9, 17, 18, 24, 25, 60, 300] {
            let units = many(count);
            let elements = check("resnet18", &units);
            for unit in &units {
                assert!(texts(&elements).contains(&unit.layer.as_str()), "{} of {count}", unit.layer);
            }
            let circles = elements.iter().filter(|e| e.name == "circle").count();
            assert_eq!(circles, if count == 0 { 0 } else { count + 1 }); // one in the legend
        }
        assert_eq!(svg("resnet18", &names(), &many(9)), svg("resnet18", &names(), &many(9)));
    }

    #[test]
    fn no_units_are_said() {
        let elements = check("tiny", &[]);
        assert_eq!(texts(&elements)[..2], ["tiny", "0 AWS-Units"]);
        assert!(texts(&elements)[2].starts_with("Nothing to draw"));
    }

    #[test]
    fn shares_stand_where_the_axis_says() {
        let elements = check("tiny", &[unit("conv1", &[0.25], &[1.0])]);
        let place = |number: &str| {
            let label = elements.iter().find(|e| e.name == "text" && e.content == number).unwrap();
            label.number("y") - 2.2 // from the base line to the middle of the digits
        };
        let disc = elements.iter().rfind(|e| e.name == "circle").unwrap();
        assert!((disc.number("cy") - place("0.25")).abs() < 0.02);
        let square = elements.iter().rfind(|e| e.name == "rect").unwrap();
        assert!((square.number("y") + square.number("height") / 2.0 - place("1")).abs() < 0.02);
    }

    #[test]
    fn percentiles_are_linear_between_values() {
        let tenths: Vec<f32> = (0..=10).map(|i| i as f32).collect();
        assert_eq!([0.0, 0.1, 0.9, 1.0].map(|p| percentile(&tenths, p)), [0.0, 1.0, 9.0, 10.0]);
        assert_eq!(percentile(&[1.0, 2.0], 0.25), 1.25);
        assert_eq!(percentile(&[3.0], 0.9), 3.0);
    }

    #[test]
    fn shares_that_are_not_numbers_are_gaps_and_said() {
        let mut units = many(5);
        units[2].borrowed[0].fill(f32::NAN);
        units[3].borrowed[1][0] = f32::NAN;
        let elements = check("gaps", &units);
        let lines: Vec<_> = elements.iter().filter(|e| e.name == "path").filter_map(|e| e.get("d")).collect();
        // Behind the two lines of the legend.
        let starts = |line: &str| line.matches('M').count();
        assert_eq!(lines[2..].iter().map(|line| starts(line)).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(elements.iter().filter(|e| e.get("fill") == Some(SHADE)).count(), 1);
        assert!(texts(&elements).iter().any(|t| t.starts_with("Shaded:")));
        assert!(texts(&elements).iter().any(|t| t.starts_with("Left out: 1 channel,")));

        for borrowed in [[vec![], vec![]], [vec![f32::NAN; 4], vec![f32::NAN; 4]]] {
            check("nothing", &[UnitShare { borrowed, ..unit("conv1", &[], &[]) }]);
        }
    }

    #[test]
    fn gates_are_marked() {
        let mut units = many(3);
        units[1].kind = "gate";
        units[1].depends_on_image = true;
        let elements = check("gates", &units);
        assert!(texts(&elements).contains(&"layer1.1.conv2*"));
        assert!(texts(&elements).contains(&"3 AWS-Units: 2 channel, 1 gate"));
        assert!(texts(&elements).iter().any(|t| t.contains("at g = 0")));
    }

    #[test]
    fn any_text_may_be_given() {
        let hostile =
            "</text><script>alert(\"1\" && '2')</script>]]>&amp;\u{0}\u{1b}\u{9f}\u{202e}\u{ffff}\r\n";
        let long = "W".repeat(100_000);
        for name in [hostile, &long, "", " ", "表情", "e\u{301}"] {
            let elements =
                check(name, &[unit(name, &[0.5], &[0.5]), unit("conv2", &[0.1, 0.2], &[0.0, 0.0])]);
            assert!(elements.iter().all(|e| e.name != "script"));
        }
        assert_eq!(clean(hostile), "</text><script>alert(\"1\" && '2')</script>]]>&amp;");
    }
}
