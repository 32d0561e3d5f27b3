//! The roofline picture (Williams, Waterman and Patterson, CACM 2009) of measured operations, as SVG.

use super::{Limits, Measurement, Work};
use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 470.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 400.0;
/// Left and right ends of the roofs' panel and of the bars'.
const ROOFS: (f64, f64) = (70.0, 560.0);
const BARS: (f64, f64) = (860.0, 1050.0);
/// Operations a byte.
const INTENSITY: (f64, f64) = (0.5, 4096.0);
const COLOURS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b"];

/// A picture of `rows` under the roofs of the machine: operations a second over operations a byte where operations are
/// counted, bytes a second where memory bounds them whatever they are. The area of a dot is its share of the time of
/// all dots.
pub fn roofline(limits: &Limits, rows: &[Measurement]) -> String {
    let meant =
        |row: &&Measurement| row.work.is_some_and(|work| limits.share(&work, row.median_ms).is_some());
    let rows: Vec<(&Measurement, Work)> =
        rows.iter().filter(meant).filter_map(|row| Some((row, row.work?))).collect();
    let (counted, moved): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, work)| work.operations > 0.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let roofs = Roofs { limits, top: 1.6 * limits.peaks.iter().map(|peak| peak.gflops).fold(0.0, f64::max) };
    roofs.draw(&mut svg);
    dots(&mut svg, &roofs, &counted);
    bars(&mut svg, limits, &moved);
    svg.push_str("</svg>\n");
    svg
}

/// The panel of operations a second over operations a byte, both logarithmic.
struct Roofs<'a> {
    limits: &'a Limits,
    /// GFLOP/s at the upper edge; the lower one is a thousandth.
    top: f64,
}

impl Roofs<'_> {
    fn x(&self, intensity: f64) -> f64 {
        let share = (intensity / INTENSITY.0).ln() / (INTENSITY.1 / INTENSITY.0).ln();
        ROOFS.0 + share.clamp(0.0, 1.0) * (ROOFS.1 - ROOFS.0)
    }

    fn y(&self, gflops: f64) -> f64 {
        let share = (gflops / self.top).ln() / 1000f64.ln() + 1.0;
        BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP)
    }

    fn draw(&self, svg: &mut String) {
        text(svg, (ROOFS.0, 20.0), "", "GFLOP/s, operations of the definition");
        text(svg, (ROOFS.0, BOTTOM + 40.0), "", "operations a byte, every array moved once");
        let grid = "stroke=\"#e4e4e4\"";
        for power in 0..=12 {
            let intensity = f64::from(1 << power);
            if power % 2 == 0 {
                line(svg, (self.x(intensity), TOP), (self.x(intensity), BOTTOM), grid);
                text(svg, (self.x(intensity), BOTTOM + 18.0), "middle", &intensity.to_string());
            }
        }
        for gflops in [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0] {
            if gflops > self.top / 1000.0 && gflops < self.top {
                line(svg, (ROOFS.0, self.y(gflops)), (ROOFS.1, self.y(gflops)), grid);
                text(svg, (ROOFS.0 - 6.0, self.y(gflops) + 4.0), "end", &gflops.to_string());
            }
        }
        let copy = self.limits.copy;
        let mut label = f64::INFINITY;
        for peak in &self.limits.peaks {
            let used = peak.level == self.limits.level;
            let style = if used {
                "stroke=\"#333\" stroke-width=\"1.5\""
            } else {
                "stroke=\"#999\" stroke-dasharray=\"5 4\""
            };
            let y = self.y(peak.gflops);
            line(svg, (self.x(peak.gflops / copy), y), (ROOFS.1, y), style);
            // Peaks that coincide are named one above the other.
            label = (y + 4.0).min(label - 14.0);
            text(svg, (ROOFS.1 + 6.0, label), "", &format!("{}: {:.0}", peak.level, peak.gflops));
            if used {
                let foot = INTENSITY.0.max(self.top / 1000.0 / copy);
                line(svg, (self.x(foot), self.y(foot * copy)), (self.x(peak.gflops / copy), y), style);
                let place = (self.x(2.0) + 10.0, self.y(2.0 * copy) + 4.0);
                text(svg, place, "", &format!("copy: {copy:.1} GB/s"));
            }
        }
    }
}

fn dots(svg: &mut String, roofs: &Roofs, rows: &[(&Measurement, Work)]) {
    let whole: f64 = rows.iter().map(|(row, _)| row.median_ms).sum();
    let mut colours: BTreeMap<String, &str> = BTreeMap::new();
    for (row, work) in rows {
        let next = COLOURS[colours.len() % COLOURS.len()];
        let colour = *colours.entry(kind(row)).or_insert(next);
        let (x, y) = (roofs.x(work.operations / work.bytes), roofs.y(work.operations / 1e6 / row.median_ms));
        let radius = 2.5 + 30.0 * (row.median_ms / whole).sqrt();
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{colour}\" fill-opacity=\"0.45\">\
             <title>{}: {:.2} ms</title></circle>",
            escaped(&row.name),
            row.median_ms
        );
    }
    for (place, (kind, colour)) in colours.iter().enumerate() {
        let y = BOTTOM - 20.0 * (colours.len() - place) as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.6\"/>",
            ROOFS.1 - 165.0,
            y - 4.0
        );
        text(svg, (ROOFS.1 - 155.0, y), "", kind);
    }
}

/// Bytes a second of each kind of operation, all its calls together.
fn bars(svg: &mut String, limits: &Limits, rows: &[(&Measurement, Work)]) {
    let mut kinds: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (row, work) in rows {
        let (bytes, time) = kinds.entry(kind(row)).or_default();
        *bytes += work.bytes;
        *time += row.median_ms;
    }
    let rates = || kinds.values().map(|(bytes, time)| bytes / 1e6 / time);
    let most = 1.1 * rates().fold(limits.copy.max(limits.update), f64::max);
    let x = |rate: f64| BARS.0 + rate / most * (BARS.1 - BARS.0);
    text(svg, (BARS.0, 20.0), "", "GB/s, every array moved once");
    let pitch = ((BOTTOM - TOP) / kinds.len().max(1) as f64).min(26.0);
    for (place, (kind, rate)) in kinds.keys().zip(rates()).enumerate() {
        let y = TOP + pitch * place as f64;
        let (width, height) = (x(rate) - BARS.0, 0.7 * pitch);
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#1f77b4\" \
             fill-opacity=\"0.55\"/>",
            BARS.0
        );
        text(svg, (BARS.0 - 6.0, y + 0.5 * pitch + 2.0), "end", kind);
        text(svg, (BARS.0 + 4.0, y + 0.5 * pitch + 2.0), "", &format!("{rate:.1}"));
    }
    for (place, (name, rate)) in
        [("copy", limits.copy), ("Adam's streams", limits.update)].into_iter().enumerate()
    {
        line(svg, (x(rate), TOP - 8.0), (x(rate), BOTTOM), "stroke=\"#333\"");
        let y = BOTTOM + 16.0 * (1 + place) as f64;
        text(svg, (x(rate), y), "middle", &format!("{name}: {rate:.1}"));
    }
}

/// What a row is called without its shapes.
fn kind(row: &Measurement) -> String {
    let stem = row.name.split([',', '[']).next().unwrap_or_default().trim();
    match row.name.rsplit(' ').next() {
        Some(direction @ ("forward" | "backward")) => format!("{stem} {direction}"),
        _ => stem.to_string(),
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>",
        from.0, from.1, to.0, to.1
    );
}

/// `anchor`: where the place lies in the text, `start` if empty.
fn text(svg: &mut String, place: (f64, f64), anchor: &str, words: &str) {
    let anchor = if anchor.is_empty() { "start" } else { anchor };
    let (x, y, words) = (place.0, place.1, escaped(words));
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Peak, Stream};
    use super::*;

    fn row(name: &str, operations: f64, bytes: f64, median_ms: f64) -> Measurement {
        let work = Some(Work { operations, bytes, stream: Stream::Copy });
        Measurement { name: name.into(), least_ms: 0.0, median_ms, most_ms: 0.0, rate: None, work }
    }

    fn picture(rows: &[Measurement]) -> String {
        let peaks = vec![Peak { level: "plain", gflops: 50.0 }, Peak { level: "avx2", gflops: 100.0 }];
        let limits = Limits { threads: 1, level: "avx2", peaks, copy: 10.0, update: 12.0, array_bytes: 1 };
        roofline(&limits, rows)
    }

    /// Number `attribute` of the first element that starts with `element`.
    fn number(svg: &str, element: &str, attribute: &str) -> f64 {
        let element = &svg[svg.find(element).expect("the element is there")..];
        let value = &element[element.find(&format!(" {attribute}=\"")).unwrap() + attribute.len() + 3..];
        value[..value.find('"').unwrap()].parse().unwrap()
    }

    #[test]
    fn an_operation_at_the_peak_touches_its_roof() {
        // 100 GFLOP/s: the upper edge is at 160 and the lower one at 0.16.
        let svg = picture(&[row("conv2d [1] forward", 1e9, 1e7, 10.0)]);
        let roof = BOTTOM - (1.0 + (100.0f64 / 160.0).ln() / 1000f64.ln()) * (BOTTOM - TOP);
        assert!((number(&svg, "<circle", "cy") - roof).abs() < 0.06);
        assert!(svg.contains(&format!("y1=\"{roof:.1}\"")));
    }

    #[test]
    fn bars_add_up_the_calls_of_a_kind() {
        // 4e7 bytes in 5 ms are 8 GB/s; the axis ends at 1.1 times 12.
        let svg = picture(&[row("silu [1] forward", 0.0, 1e7, 1.0), row("silu [2] forward", 0.0, 3e7, 4.0)]);
        let width = 8.0 / 13.2 * (BARS.1 - BARS.0);
        assert!((number(&svg, &format!("<rect x=\"{}\"", BARS.0), "width") - width).abs() < 0.06);
        assert_eq!(svg.matches(">silu forward<").count(), 1);
    }

    #[test]
    fn names_are_escaped_and_nothing_measured_is_a_picture() {
        assert!(picture(&[row("a<b&c>", 1e9, 1e7, 1.0)]).contains("a&lt;b&amp;c&gt;"));
        assert!(picture(&[]).ends_with("</svg>\n"));
    }
}
