//! The shipped dashboard: its panels, what they ask, and a drawing of what a Prometheus answers.
//!
//! The drawing is not Grafana's. It puts the panels where the dashboard puts them, runs their queries over one stretch of
//! time, and draws the series.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;

use super::prometheus::Prometheus;

/// Pixels of one column and of one row of the dashboard's grid.
const COLUMN: i32 = 60;
const ROW: i32 = 34;
/// More series than these in a panel are counted in its legend, not named.
const NAMED: usize = 6;

const PAPER: RGBColor = RGBColor(255, 255, 255);
const EDGE: RGBColor = RGBColor(208, 212, 218);
const INK: RGBColor = RGBColor(36, 41, 47);
const FAINT: RGBColor = RGBColor(110, 118, 129);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What the legend calls a series, and its points: time and value.
type Series = (String, Vec<(f64, f64)>);

pub struct Panel {
    title: String,
    kind: String,
    unit: String,
    /// Column, row, width and height.
    grid: [i32; 4],
    targets: Vec<Target>,
}

struct Target {
    query: String,
    legend: String,
}

/// The shipped panels, for all namespaces and jobs and a rate over `interval`.
pub fn panels(interval: &str) -> Vec<Panel> {
    let dashboard = include_str!("../../../manifests/components/dashboard/waybill.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let query = |target: &Value| {
        ["$namespace", "$job", "$agents"]
            .iter()
            .fold(text(&target["expr"]).replace("$__rate_interval", interval), |text, name| {
                text.replace(name, ".*")
            })
    };
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .map(|panel| Panel {
            title: text(&panel["title"]),
            kind: text(&panel["type"]),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            grid: ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_i64().unwrap() as i32),
            targets: panel["targets"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|target| Target { query: query(target), legend: text(&target["legendFormat"]) })
                .collect(),
        })
        .collect()
}

impl Panel {
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| &*target.query)
    }

    /// The series of a stretch of time in seconds of the Unix epoch, by what the legend calls them.
    async fn series(&self, prometheus: &Prometheus, from: f64, to: f64) -> Result<Vec<Series>, String> {
        let mut all = Vec::new();
        for target in &self.targets {
            for (labels, points) in prometheus.range(&target.query, from, to).await? {
                let name = legend(&target.legend, &labels);
                let finite = points.into_iter().filter(|(_, value)| value.is_finite()).collect();
                all.push((name, finite));
            }
        }
        Ok(all)
    }
}

/// A legend with `{{LABEL}}` replaced. A label that the series lacks is empty.
fn legend(text: &str, labels: &Value) -> String {
    let mut parts = text.split("{{");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once("}}").unwrap_or((part, ""));
        name += labels[label].as_str().unwrap_or_default();
        name += rest;
    }
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The dashboard between two times, in seconds of the Unix epoch, as SVG.
pub async fn picture(prometheus: &Prometheus, interval: &str, from: f64, to: f64) -> Result<String, String> {
    let panels = panels(interval);
    let bottom = panels.iter().map(|panel| panel.grid[1] + panel.grid[3]).max().unwrap_or(0);
    let mut filled = Vec::new();
    for panel in panels {
        let series = panel.series(prometheus, from, to).await?;
        filled.push((panel, series));
    }
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, ((24 * COLUMN) as u32, (bottom * ROW) as u32))
            .into_drawing_area();
        root.fill(&RGBColor(244, 245, 247)).unwrap();
        for (panel, series) in &filled {
            let [x, y, width, height] = panel.grid;
            let area = root.clone().shrink((x * COLUMN, y * ROW), (width * COLUMN, height * ROW));
            panel.draw(&area, series, from..to).unwrap();
        }
        root.present().unwrap();
    }
    Ok(svg)
}

impl Panel {
    fn draw(
        &self,
        area: &Area<'_>,
        series: &[Series],
        time: Range<f64>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let (width, height) = area.dim_in_pixel();
        let (width, height) = (width as i32, height as i32);
        if self.kind == "row" {
            return area.draw_text(&self.title, &("sans-serif", 17).into_font().color(&INK), (8, 10));
        }
        let frame = [(3, 3), (width - 3, height - 3)];
        area.draw(&Rectangle::new(frame, PAPER.filled()))?;
        area.draw(&Rectangle::new(frame, EDGE))?;
        area.draw_text(&self.title, &("sans-serif", 14).into_font().color(&INK), (12, 11))?;
        if self.kind == "stat" {
            let last = series.iter().filter_map(|(_, points)| points.last()).map(|(_, value)| *value).next();
            let text = last.map_or("no data".to_owned(), |value| shown(value, &self.unit));
            return area.draw_text(&text, &("sans-serif", 40).into_font().color(&INK), (14, 62));
        }

        let most = series.iter().flat_map(|(_, points)| points).map(|(_, value)| *value).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&area.clone().shrink((8, 34), (width - 20, height - 84)))
            .x_label_area_size(20)
            .y_label_area_size(58)
            .build_cartesian_2d(
                0.0..time.end - time.start,
                0.0..if most > 0.0 { most * 1.08 } else { 1.0 },
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(EDGE)
            .axis_style(EDGE)
            .label_style(("sans-serif", 11).into_font().color(&FAINT))
            .x_labels(5)
            .y_labels(4)
            .x_label_formatter(&|at| format!("{:.0} s", at))
            .y_label_formatter(&|value| shown(*value, &self.unit))
            .draw()?;
        for (at, (_, points)) in series.iter().enumerate() {
            let style = Palette99::pick(at).stroke_width(1);
            let points = points.iter().map(|(at, value)| (at - time.start, *value));
            chart.draw_series(LineSeries::new(points, style))?;
        }
        for (at, (name, points)) in series.iter().take(NAMED).enumerate() {
            let place = (14 + (at as i32 % 2) * (width / 2), height - 50 + (at as i32 / 2) * 15);
            area.draw(&Rectangle::new(
                [place, (place.0 + 10, place.1 + 3)].map(|(x, y)| (x, y + 4)),
                Palette99::pick(at).filled(),
            ))?;
            let last = points.last().map_or("no data".to_owned(), |(_, value)| shown(*value, &self.unit));
            let mut text = format!("{name}: {last}");
            if at + 1 == NAMED && series.len() > NAMED {
                text += &format!(", and {} more", series.len() - NAMED);
            }
            let font = ("sans-serif", 11).into_font().color(&FAINT);
            area.draw_text(&text, &font, (place.0 + 15, place.1))?;
        }
        Ok(())
    }
}

/// A value in a unit of Grafana's, with three digits.
fn shown(value: f64, unit: &str) -> String {
    let digits = |value: f64| {
        let places = if value.abs() >= 100.0 { 0 } else { usize::from(value.abs() < 10.0) + 1 };
        let text = format!("{value:.places$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    let (name, per) = match unit {
        "s" if value > 0.0 && value < 1.0 => return format!("{} ms", digits(value * 1e3)),
        "s" => (" s", ""),
        "bytes" => ("B", ""),
        "Bps" => ("B", "/s"),
        "wps" | "reqps" => ("", "/s"),
        _ => ("", ""),
    };
    match name {
        "B" if value >= 1e6 => format!("{} MB{per}", digits(value / 1e6)),
        "B" if value >= 1e3 => format!("{} kB{per}", digits(value / 1e3)),
        "B" => format!("{} B{per}", digits(value)),
        _ => format!("{}{name}{per}", digits(value)),
    }
}
