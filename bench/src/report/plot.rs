//! Plots as SVG: small, the same for the same figures, readable on light and on dark pages.

use std::fmt::{Debug, Display};

use anyhow::anyhow;
use plotters::{
    chart::ChartBuilder,
    coord::ranged1d::{DefaultFormatting, KeyPointHint},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

const WIDTH: u32 = 760;
const HEIGHT: u32 = 360;
/// Of the plot alone, beside the legend.
const PLOT: u32 = 560;
const FONT: &str = "sans-serif";
/// Colours that can be told apart, by the colour-blind too, and seen on white and on black.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(128, 128, 128),
];
const GREY: RGBColor = RGBColor(128, 128, 128);
/// Text goes by what the reader's page is like; the rest can be seen on both.
const STYLE: &str = "<style>text{fill:#424a53}@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}</style>";

/// Lines over numbers.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What it shows.
    pub title: &'static str,
    /// Across.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// From the first in the legend to the last.
    pub lines: Vec<Line>,
}

/// Stacked bars over names.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What it shows.
    pub title: &'static str,
    /// Upwards, from 0.
    pub y: &'static str,
    /// What the bars are of.
    pub names: Vec<String>,
    /// Parts of the bars from the lowest up, each with a value for each name.
    pub parts: Vec<(&'static str, Vec<f64>)>,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it counts, with its unit.
    pub label: &'static str,
    /// Whether each step is a multiple of the one before.
    pub scale: Scale,
}

/// How numbers become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Even,
    /// Evenly, from a little below the least.
    Near,
    /// By powers of ten.
    Powers,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// An axis from one place to another, with marks.
#[derive(Clone, Debug)]
struct Places {
    from: f64,
    to: f64,
    marks: Vec<f64>,
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "a pixel")]
    fn map(&self, place: &f64, (first, last): (i32, i32)) -> i32 {
        first + (f64::from(last - first) * (place - self.from) / (self.to - self.from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl Lines {
    /// The picture; `None` if there is nothing to show.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn svg(&self) -> Result<Option<String>, anyhow::Error> {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| !line.points.is_empty()).collect();
        let all = || lines.iter().flat_map(|line| &line.points);
        let (Some(x), Some(y)) = (self.x.places(all().map(|point| point.0)), self.y.places(all().map(|point| point.1)))
        else {
            return Ok(None);
        };
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
            let (left, right) = root.split_horizontally(PLOT);
            let words = Words { title: self.title, x: self.x.label, y: self.y.label };
            let (x_axis, y_axis) = (self.x, self.y);
            let shown = (&|place: &f64| number(x_axis.value(*place)), &|place: &f64| number(y_axis.value(*place)));
            let mut chart = chart(&left, words, (x, y), (shown.0, shown.1))?;
            for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
                let points = line.points.iter().map(|point| (x_axis.place(point.0), y_axis.place(point.1)));
                let series = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
                chart.draw_series(series).map_err(failed)?;
            }
            legend(&right, lines.iter().map(|line| line.name.as_str()))?;
            root.present().map_err(failed)?;
        }
        Ok(Some(styled(&text)))
    }
}

impl Bars {
    /// As [`Lines::svg`].
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn svg(&self) -> Result<Option<String>, anyhow::Error> {
        let count = u32::try_from(self.names.len())?;
        let tops = (0..self.names.len()).map(|name| self.parts.iter().map(|(_, values)| values[name]).sum::<f64>());
        let axis = Axis { label: self.y, scale: Scale::Even };
        let Some(y) = axis.places(tops) else { return Ok(None) };
        let middles = (0..count).map(|name| f64::from(name) + 0.5).collect::<Vec<f64>>();
        let x = Places { from: 0.0, to: f64::from(count), marks: middles };
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
            let (left, right) = root.split_horizontally(PLOT);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let name = |place: &f64| self.names.get(place.floor() as usize).cloned().unwrap_or_default();
            let words = Words { title: self.title, x: "", y: self.y };
            let mut chart = chart(&left, words, (x, y), (&name, &|place| number(*place)))?;
            let mut floors = vec![0.0; self.names.len()];
            for ((_, values), colour) in self.parts.iter().zip(COLOURS) {
                let bars = values.iter().zip(&mut floors).zip(0..count).map(|((value, floor), name)| {
                    let (low, left) = (*floor, f64::from(name) + 0.2);
                    *floor += value;
                    Rectangle::new([(left, low), (left + 0.6, *floor)], colour.filled())
                });
                chart.draw_series(bars.collect::<Vec<_>>()).map_err(failed)?;
            }
            legend(&right, self.parts.iter().map(|(name, _)| *name))?;
            root.present().map_err(failed)?;
        }
        Ok(Some(styled(&text)))
    }
}

impl Axis {
    /// Where a number stands.
    fn place(self, value: f64) -> f64 {
        if self.scale == Scale::Powers { value.log10() } else { value }
    }

    /// What stands at a place.
    fn value(self, place: f64) -> f64 {
        if self.scale == Scale::Powers { 10_f64.powf(place) } else { place }
    }

    /// The whole axis for these numbers, with its marks; `None` without any.
    fn places(self, values: impl Iterator<Item = f64>) -> Option<Places> {
        let places: Vec<f64> = values.map(|value| self.place(value)).collect();
        if places.is_empty() || places.iter().any(|place| !place.is_finite()) {
            return None;
        }
        let (least, most) = places
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(*place), high.max(*place)));
        let room = ((most - least) * 0.06).max(most.abs() * 0.001).max(f64::MIN_POSITIVE);
        let (from, to) = match self.scale {
            Scale::Even => (least.min(0.0), most + room),
            Scale::Near => (least - room, most + room),
            Scale::Powers => (least - room.max(0.05), most + room.max(0.05)),
        };
        let marks = if self.scale == Scale::Powers { powers(from, to) } else { steps(from, to) };
        Some(Places { from, to, marks })
    }
}

/// Powers of ten from one place to another, with halves and doubles between them if there are few.
fn powers(from: f64, to: f64) -> Vec<f64> {
    let between: &[f64] = if to - from < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    #[expect(clippy::cast_possible_truncation, reason = "exponents")]
    let exponents = (from.floor() as i32)..=(to.ceil() as i32);
    let marks = exponents.flat_map(|exponent| between.iter().map(move |factor| f64::from(exponent) + factor.log10()));
    marks.filter(|mark| (from..=to).contains(mark)).collect()
}

/// Some five round numbers at even steps.
fn steps(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (from / step).ceil();
    (0..20).map(|mark| (first + f64::from(mark)) * step).take_while(|mark| *mark <= to).collect()
}

/// With k and M, as few digits as tell it.
fn number(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, " M"),
        size if size >= 9995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let rounded = crate::stats::significant(scaled);
    let text = format!("{rounded:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{suffix}", if text == "-0" { "0" } else { text })
}

type Area<'b> = DrawingArea<SVGBackend<'b>, plotters::coord::Shift>;

type Shown<'f> = &'f dyn Fn(&f64) -> String;

/// What stands above a plot and along its axes.
#[derive(Clone, Copy)]
struct Words {
    title: &'static str,
    x: &'static str,
    y: &'static str,
}

/// Title, axes and grid.
fn chart<'a, 'b>(
    area: &'a Area<'b>,
    words: Words,
    (x, y): (Places, Places),
    (x_shown, y_shown): (Shown, Shown),
) -> Result<ChartContext<'a, SVGBackend<'b>, Cartesian2d<Places, Places>>, anyhow::Error> {
    let mut builder = ChartBuilder::on(area);
    builder.caption(words.title, (FONT, 17)).margin(10).x_label_area_size(42).y_label_area_size(64);
    let mut chart = builder.build_cartesian_2d(x, y).map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(words.x).y_desc(words.y).x_label_formatter(&x_shown).y_label_formatter(&y_shown);
    mesh.label_style((FONT, 13)).axis_desc_style((FONT, 14));
    mesh.axis_style(GREY).bold_line_style(GREY.mix(0.25)).light_line_style(TRANSPARENT);
    mesh.draw().map_err(failed)?;
    Ok(chart)
}

/// Names beside their colours.
fn legend<'n>(area: &Area, names: impl Iterator<Item = &'n str>) -> Result<(), anyhow::Error> {
    let style = TextStyle::from((FONT, 13)).pos(Pos::new(HPos::Left, VPos::Center));
    for ((name, colour), row) in names.zip(COLOURS.into_iter().cycle()).zip(0..) {
        let y = 56 + 22 * row;
        area.draw(&Rectangle::new([(4, y - 3), (22, y + 3)], colour.filled())).map_err(failed)?;
        area.draw(&Text::new(name.to_owned(), (30, y), style.clone())).map_err(failed)?;
    }
    Ok(())
}

/// What the library writes, with [`STYLE`] and one element a line.
fn styled(svg: &str) -> String {
    let at = svg.find("<svg").and_then(|start| svg[start..].find('>').map(|end| start + end + 1)).unwrap_or(0);
    let (head, body) = svg.split_at(at);
    let lines: Vec<&str> = body.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    format!("{}\n{STYLE}\n{}\n", head.trim_end(), lines.join("\n"))
}

fn failed<E: Display + Debug>(error: E) -> anyhow::Error {
    anyhow!("cannot draw a plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(points: Vec<(f64, f64)>) -> Lines {
        Lines {
            title: "Cost by flows",
            x: Axis { label: "flows", scale: Scale::Powers },
            y: Axis { label: "ns a packet", scale: Scale::Even },
            lines: vec![Line { name: "lb".into(), points }],
        }
    }

    #[test]
    fn a_plot_has_its_words_and_is_the_same_each_time() {
        let plot = lines(vec![(1.0, 60.0), (1024.0, 150.0), (1_048_576.0, 210.0)]);
        let svg = plot.svg().unwrap().unwrap();
        assert_eq!(plot.svg().unwrap().unwrap(), svg);
        for word in ["Cost by flows", ">\nflows", "ns a packet", "lb", ">\n1 M", ">\n200", "prefers-color-scheme"] {
            assert!(svg.contains(word), "{word} in\n{svg}");
        }
        assert!(svg.len() < 10_000, "{} bytes", svg.len());
    }

    #[test]
    fn nothing_gives_no_plot() {
        assert_eq!(lines(vec![]).svg().unwrap(), None);
        assert_eq!(lines(vec![(0.0, 1.0)]).svg().unwrap(), None, "0 has no place among powers");
    }

    #[test]
    fn bars_stand_on_each_other() {
        let bars = Bars {
            title: "CPU",
            y: "% of a core",
            names: vec!["tcp".into(), "udp".into()],
            parts: vec![("kernel", vec![10.0, 5.0]), ("program", vec![3.0, 3.0])],
        };
        let svg = bars.svg().unwrap().unwrap();
        assert_eq!(svg.matches("<rect").count(), 4 + 2, "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.5, 250.0, 9000.0, 65_537.0, 4_000_000.0, 1.002].map(number);
        assert_eq!(texts, ["0", "0.5", "250", "9000", "65.537 k", "4 M", "1.002"]);
        assert_eq!(steps(0.0, 230.0), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(powers(0.0, 3.0), [0.0, 1.0, 2.0, 3.0]);
    }
}
