//! Measurements over time, drawn as an SVG, and the line through them.

/// One diagram. Seconds go to the right.
pub struct Panel {
    pub title: String,
    /// A red line at this height, where there is a limit.
    pub limit: Option<f64>,
    /// (second, value); the first curve is blue.
    pub curves: Vec<Vec<(f64, f64)>>,
    /// Seconds at which something happened.
    pub marks: Vec<f64>,
}

const COLOURS: [&str; 3] = ["#06c", "#e80", "#393"];
const LEFT: f64 = 60.0;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 240.0;
/// With title and legend.
const PANEL_HEIGHT: f64 = 310.0;

/// The panels below each other.
pub fn svg(panels: &[Panel]) -> String {
    let height = PANEL_HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 840 {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"840\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        out += &format!(
            "<g transform=\"translate(0 {})\">\n{}</g>\n",
            index as f64 * PANEL_HEIGHT,
            panel.drawn()
        );
    }
    out + "</svg>\n"
}

impl Panel {
    fn drawn(&self) -> String {
        let points = || self.curves.iter().flatten();
        let end = points().fold(1.0, |end: f64, point| end.max(point.0));
        let most = points().fold(self.limit.unwrap_or(1.0), |most: f64, point| {
            most.max(point.1)
        });
        let top = most * 1.1;
        let x = |second: f64| LEFT + second / end * WIDTH;
        let y = |value: f64| 30.0 + HEIGHT - value / top * HEIGHT;
        let right = LEFT + WIDTH;
        let mut out = format!("<text x=\"{LEFT}\" y=\"18\">{}</text>\n", self.title);
        let step = step(top);
        let mut value = 0.0;
        while value < top {
            out += &format!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/><text x=\"54\" y=\"{1:.1}\" text-anchor=\"end\">{value}</text>\n",
                y(value),
                y(value) + 4.0
            );
            value += step;
        }
        for mark in &self.marks {
            out += &format!(
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"30\" y2=\"{1:.1}\" stroke=\"#bbb\" stroke-dasharray=\"2 3\"/>\n",
                x(*mark),
                y(0.0)
            );
        }
        if let Some(limit) = self.limit {
            out += &format!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#c00\"/>\n",
                y(limit)
            );
        }
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let line: Vec<String> = curve
                .iter()
                .map(|(second, value)| format!("{:.1},{:.1}", x(*second), y(*value)))
                .collect();
            out += &format!(
                "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\n",
                line.join(" ")
            );
        }
        out + &format!("<text x=\"{right}\" y=\"295\" text-anchor=\"end\">{end:.0} s</text>\n")
    }
}

/// Between two lines of the grid: 1, 2 or 5 times a power of ten, so that there are four to ten.
fn step(top: f64) -> f64 {
    let power = 10_f64.powf((top / 10.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| top / step <= 10.0)
        .unwrap_or(10.0 * power)
}

/// The slope of the line that fits best, by least squares.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / n, y / n);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), point| {
        (
            over + (point.0 - x) * (point.1 - y),
            under + (point.0 - x).powi(2),
        )
    });
    over / under
}
