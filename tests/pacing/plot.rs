//! Curves as SVG, written by hand: a frame, a grid, lines and their names.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 34.0;

/// One line: a name, a colour, and points of minutes and heights.
pub struct Line {
    pub name: String,
    pub colour: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// One frame with lines in it.
pub struct Chart {
    pub title: String,
    pub lines: Vec<Line>,
}

/// Charts, one below the other.
pub fn svg(charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (n, chart) in charts.iter().enumerate() {
        draw(&mut out, chart, HEIGHT * n as f64);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, chart: &Chart, above: f64) {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let (first, last) = points().fold((f64::MAX, f64::MIN), |(a, b), p| (a.min(p.0), b.max(p.0)));
    let most = points().map(|p| p.1).fold(0.0, f64::max).max(1e-9) * 1.05;
    let (bottom, wide) = (above + HEIGHT - BOTTOM, WIDTH - LEFT - RIGHT);
    let x = |minute: f64| LEFT + wide * (minute - first) / (last - first);
    let y = |height: f64| bottom - (HEIGHT - TOP - BOTTOM) * height / most;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"14\">{}</text>", above + 20.0, chart.title);
    let grid = |out: &mut String, x1: f64, y1: f64, x2: f64, y2: f64| {
        let _ = writeln!(out, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>");
    };
    let step = step(most, 4.0);
    let mut height = 0.0;
    while height <= most {
        grid(out, LEFT, y(height), LEFT + wide, y(height));
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y(height) + 4.0,
            (height * 100.0).round() / 100.0
        );
        height += step;
    }
    let step = self::step(last - first, 8.0);
    // Plus nothing: there is no minute minus zero.
    let mut minute = (first / step).ceil() * step + 0.0;
    while minute <= last {
        grid(out, x(minute), above + TOP, x(minute), bottom);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minute} min</text>",
            x(minute),
            bottom + 16.0
        );
        minute += step;
    }
    for (n, line) in chart.lines.iter().enumerate() {
        let path: Vec<String> = line.points.iter().map(|p| format!("{:.1} {:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            path.join("L"),
            line.colour
        );
        let at = above + TOP + 12.0 + 16.0 * n as f64;
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{at:.0}\" fill=\"{}\">{}</text>",
            LEFT + wide + 10.0,
            line.colour,
            line.name
        );
    }
}

/// A round step that divides a range into some parts.
fn step(range: f64, parts: f64) -> f64 {
    let size = 10_f64.powf((range / parts).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * size).into_iter().find(|step| range / step <= parts).unwrap_or(10.0 * size)
}
