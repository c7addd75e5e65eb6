//! A plot of a log's rate over the guest's time, one colour for each kind of event, as an SVG image.
//!
//! In: [`Statistics`]. Out: text. Areas are stacked: the upper edge is the log's whole rate.

use std::fmt::Write;

use logging_channel::{
    EventKind,
    statistics::{Statistics, Timeline},
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT: f64 = HEIGHT - TOP - BOTTOM;
/// Lines across the plot.
const GRID_LINES: u32 = 4;

/// The plot.
#[must_use]
pub fn plot(title: &str, statistics: &Statistics) -> String {
    let timeline = statistics.timeline();
    let peak = peak_bytes(timeline);
    let mut svg = String::new();
    header(&mut svg, title);
    grid(&mut svg, timeline, peak);
    let mut shown: Vec<EventKind> = EventKind::ALL.into();
    shown.retain(|kind| statistics.of(*kind).bytes > 0);
    for (index, kind) in shown.iter().enumerate() {
        area(&mut svg, timeline, peak, &shown[..index], *kind);
        legend(&mut svg, index, *kind, statistics);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Colours that are told apart in print and by most eyes.
fn colour(kind: EventKind) -> &'static str {
    const COLOURS: [&str; 10] = [
        "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866",
        "#44bb99", "#222222",
    ];
    COLOURS[kind as usize % COLOURS.len()]
}

fn header(svg: &mut String, title: &str) {
    put(
        svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            escaped(title)
        ),
    );
}

fn grid(svg: &mut String, timeline: &Timeline, peak: u64) {
    let seconds = timeline.bucket_ns() as f64 / 1e9;
    let top_kbit = peak as f64 * 8.0 / 1e3 / seconds;
    let span_s = seconds * timeline.buckets().len() as f64;
    for line in 0..=GRID_LINES {
        let share = f64::from(line) / f64::from(GRID_LINES);
        let (x, y) = (LEFT + PLOT_WIDTH * share, TOP + PLOT_HEIGHT * (1.0 - share));
        put(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                LEFT + PLOT_WIDTH,
                LEFT - 6.0,
                y + 4.0,
                number(top_kbit * share),
                TOP + PLOT_HEIGHT + 18.0,
                number(span_s * share),
            ),
        );
    }
    put(
        svg,
        format_args!(
            "<text x=\"{LEFT}\" y=\"{:.1}\" text-anchor=\"end\">kbit/s</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">guest time, s</text>\n",
            TOP - 10.0,
            LEFT + PLOT_WIDTH / 2.0,
            HEIGHT - 8.0
        ),
    );
}

/// One kind's area, upon those of the kinds `below`.
fn area(svg: &mut String, timeline: &Timeline, peak: u64, below: &[EventKind], kind: EventKind) {
    let buckets = timeline.buckets();
    let step = PLOT_WIDTH / buckets.len() as f64;
    let height = |bytes: u64| TOP + PLOT_HEIGHT * (1.0 - bytes as f64 / peak as f64);
    let (mut upper, mut lower) = (String::new(), Vec::new());
    for (place, bucket) in buckets.iter().enumerate() {
        let base: u64 = below.iter().map(|kind| bucket[*kind as usize]).sum();
        let top = base + bucket[kind as usize];
        let (from, to) = (LEFT + step * place as f64, LEFT + step * (place + 1) as f64);
        put(
            &mut upper,
            format_args!("{from:.1},{:.1} {to:.1},{:.1} ", height(top), height(top)),
        );
        lower.push(format!(
            "{to:.1},{:.1} {from:.1},{:.1}",
            height(base),
            height(base)
        ));
    }
    lower.reverse();
    put(
        svg,
        format_args!(
            "<polygon fill=\"{}\" points=\"{upper}{}\"/>\n",
            colour(kind),
            lower.join(" ")
        ),
    );
}

fn legend(svg: &mut String, index: usize, kind: EventKind, statistics: &Statistics) {
    let x = LEFT + PLOT_WIDTH + 16.0;
    let y = TOP + 18.0 * index as f64;
    let share = 100.0 * statistics.of(kind).bytes as f64 / statistics.total().bytes as f64;
    put(
        svg,
        format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"11\" height=\"11\" fill=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{kind} {share:.1} %</text>\n",
            colour(kind),
            x + 17.0,
            y + 10.0
        ),
    );
}

/// Bytes of the fullest bucket, at least 1.
fn peak_bytes(timeline: &Timeline) -> u64 {
    let sums = timeline.buckets().iter().map(|bucket| bucket.iter().sum());
    sums.max().unwrap_or(0).max(1)
}

/// As many digits as a label needs.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value if value > 0.0 => format!("{value:.3}"),
        _ => "0".to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use logging_channel::{Entry, Event, Position};

    use super::*;

    #[test]
    fn areas_are_stacked_and_the_fullest_bucket_reaches_the_top() {
        let mut statistics = Statistics::default();
        let mut add = |event, bytes| {
            let at = Position::default();
            statistics.add(&Entry { seq: 1, at, event }, bytes);
        };
        add(Event::Interrupt { vector: 32 }, 30);
        add(Event::Frame { bytes: vec![0; 9] }, 10);
        add(
            Event::Tick {
                guest_ns: 1_500_000,
            },
            20,
        );
        let svg = plot("a < b", &statistics);
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches("<polygon").count(), 3);
        // Two buckets of a millisecond; 40 bytes in the first are the peak: 320 kbit/s.
        assert!(svg.contains(">320<"), "{svg}");
        let polygon = |kind| {
            let begin = svg.find(colour(kind)).expect("its area");
            svg[begin..].lines().next().expect("a line")
        };
        let top = format!("{TOP:.1} ");
        assert!(
            polygon(EventKind::Frame).contains(&top),
            "upon the interrupt"
        );
        let three_quarters = format!(",{:.1} ", TOP + PLOT_HEIGHT / 4.0);
        assert!(polygon(EventKind::Interrupt).contains(&three_quarters));
    }

    #[test]
    fn an_empty_log_is_an_empty_plot() {
        let svg = plot("nothing", &Statistics::default());
        assert!(!svg.contains("<polygon") && !svg.contains("NaN"), "{svg}");
    }
}
