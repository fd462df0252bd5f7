//! An issue's body as HTML that is safe to show: it runs nothing, loads nothing and leads only to the
//! web.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// A code block with more lines, or more bytes, is closed until the reader opens it.
const OPEN_LINES: usize = 24;
const OPEN_BYTES: usize = 4000;
/// Quotes and lists within each other, and tags of HTML, to here: building the page of more takes time
/// that grows with their square.
const DEPTH: usize = 32;
const TAGS: usize = 1000;
/// A body is shown to here: GitHub's own limit is 65,536 characters.
const SHOWN_BYTES: usize = 200_000;

/// What an issue may show. Images, styles, classes, ids and forms are not in it.
static SANITIZER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let tags = [
        "a",
        "b",
        "blockquote",
        "br",
        "code",
        "dd",
        "del",
        "details",
        "dl",
        "dt",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "kbd",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ];
    let mut builder = Builder::empty();
    builder
        .tags(HashSet::from(tags))
        .clean_content_tags(HashSet::from(["script", "style", "template", "noscript"]))
        .tag_attributes(HashMap::from([("a", HashSet::from(["href"]))]))
        .generic_attributes(HashSet::new())
        .set_tag_attribute_value("a", "target", "_blank")
        .link_rel(Some("noopener noreferrer"))
        .url_schemes(HashSet::from(["http", "https"]))
        .url_relative(UrlRelative::Deny)
        .strip_comments(true);
    builder
});

/// The HTML of a Markdown text. Long code is collapsed, an image is its description.
pub fn safe_html(text: &str) -> String {
    let text = printable(text);
    let (shown, is_cut) = match text.len() > SHOWN_BYTES {
        true => (&text[..text.floor_char_boundary(SHOWN_BYTES)], true),
        false => (text.as_str(), false),
    };
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let events = Parser::new_ext(shown, options);
    let mut unsafe_html = String::with_capacity(shown.len() * 2);
    html::push_html(&mut unsafe_html, Shown::new(events));
    let mut safe = SANITIZER.clean(&unsafe_html).to_string();
    if is_cut {
        safe += "<p><strong>The rest is cut: read it on GitHub.</strong></p>";
    }
    safe
}

/// Without what only terminals read, and without marks that turn the direction of a text.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' if characters.peek() == Some(&'[') => {
                characters.next();
                // A control sequence ends with a byte from @ to ~ (ECMA-48).
                let rest = |c: &char| !('@'..='~').contains(c) && *c != '\n';
                while characters.next_if(rest).is_some() {}
                characters.next_if(|c| *c != '\n');
            }
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            '\n' | '\t' => shown.push(c),
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown
}

/// The events of a text as they are shown.
struct Shown<'a, I: Iterator<Item = Event<'a>>> {
    events: I,
    /// Events that go first, in reverse.
    next: Vec<Event<'a>>,
    /// How many quotes, lists and items are open.
    depth: usize,
    /// Tags of HTML so far.
    tags: usize,
}

impl<'a, I: Iterator<Item = Event<'a>>> Shown<'a, I> {
    fn new(events: I) -> Self {
        Self {
            events,
            next: Vec::new(),
            depth: 0,
            tags: 0,
        }
    }

    /// Whether there is more HTML than is shown as such.
    fn is_more(&mut self, html: &str) -> bool {
        self.tags += html.matches('<').count();
        self.tags > TAGS
    }

    /// A code block, closed if it is long.
    fn code(&mut self, tag: Tag<'a>) -> Event<'a> {
        let mut inside: Vec<Event<'a>> = Vec::new();
        let (mut lines, mut bytes) = (0, 0);
        for event in self.events.by_ref() {
            if let Event::Text(text) = &event {
                lines += text.matches('\n').count();
                bytes += text.len();
            }
            let ends = matches!(event, Event::End(TagEnd::CodeBlock));
            inside.push(event);
            if ends {
                break;
            }
        }
        let html = |text: String| Event::Html(CowStr::from(text));
        let is_long = lines > OPEN_LINES || bytes > OPEN_BYTES;
        if is_long {
            inside.push(html("</details>\n".into()));
        }
        inside.reverse();
        self.next = inside;
        let code = Event::Start(tag);
        if !is_long {
            return code;
        }
        self.next.push(code);
        html(format!("<details><summary>{lines} lines</summary>\n"))
    }

    /// An image's description.
    fn image(&mut self) -> Event<'a> {
        let mut description = String::new();
        let mut depth = 1;
        for event in self.events.by_ref() {
            match event {
                Event::Start(Tag::Image { .. }) => depth += 1,
                Event::End(TagEnd::Image) => depth -= 1,
                Event::Text(text) | Event::Code(text) => description += &text,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        Event::Text(format!("[image: {description}]").into())
    }
}

impl<'a, I: Iterator<Item = Event<'a>>> Iterator for Shown<'a, I> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        if let Some(event) = self.next.pop() {
            return Some(event);
        }
        loop {
            return Some(match self.events.next()? {
                Event::Start(tag @ Tag::CodeBlock(_)) => self.code(tag),
                Event::Start(Tag::Image { .. }) => self.image(),
                Event::Start(tag @ (Tag::BlockQuote(_) | Tag::List(_) | Tag::Item)) => {
                    self.depth += 1;
                    if self.depth > DEPTH {
                        continue;
                    }
                    Event::Start(tag)
                }
                Event::End(tag @ (TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item)) => {
                    self.depth -= 1;
                    if self.depth >= DEPTH {
                        continue;
                    }
                    Event::End(tag)
                }
                Event::Html(html) => match self.is_more(&html) {
                    true => Event::Text(html),
                    false => Event::Html(html),
                },
                Event::InlineHtml(html) => match self.is_more(&html) {
                    true => Event::Text(html),
                    false => Event::InlineHtml(html),
                },
                Event::TaskListMarker(done) => Event::Text(if done { "☑ " } else { "☐ " }.into()),
                event => event,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn markdown_is_shown_and_long_code_is_closed() {
        let html = safe_html("# T\n\n| a |\n|---|\n| `b` |\n\n- [x] done\n\n```\nshort\n```\n");
        for part in [
            "<h1>T</h1>",
            "<td><code>b</code></td>",
            "☑ done",
            "<pre><code>short",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("<details>"));
        let html = safe_html(&format!("```\n{}```\nafter", "line\n".repeat(40)));
        assert!(
            html.contains("<details><summary>40 lines</summary>"),
            "{html}"
        );
        assert!(html.ends_with("</details>\n<p>after</p>\n"), "{html}");
    }

    #[test]
    fn environment_dumps_are_closed_and_markdown_within_them_is_read() {
        let html = safe_html(
            "<details open onclick=\"x()\">\n<summary>env</summary>\n\n**b**\n\n</details>\n\nrest",
        );
        assert!(html.contains("<details>\n<summary>env</summary>"), "{html}");
        assert!(html.contains("<strong>b</strong>"), "{html}");
    }

    #[test]
    fn nothing_that_runs_loads_or_leads_elsewhere_is_left() {
        let hostile = [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "![alt](https://evil.example/pixel.png)",
            "<svg onload=alert(1)><use href=\"data:x\"/></svg>",
            "[link](javascript:alert(1)) <a href=\" javascript:alert(1)\">a</a>",
            "<a href=\"data:text/html,x\">a</a> <a href=\"//evil.example\">b</a>",
            "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
            "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
            "<p style=\"background:url(https://evil.example)\" id=save class=hidden onmouseover=alert(1)>",
            "<link rel=stylesheet href=https://evil.example><base href=https://evil.example>",
            "<form action=https://evil.example><input autofocus onfocus=alert(1)><button formaction=x>",
            "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
            "<audio src=x><video poster=https://evil.example><object data=x><embed src=x>",
            "```<script>\n</code></pre><script>alert(1)</script>\n```",
        ];
        for text in hostile {
            let html = safe_html(text).to_lowercase();
            // What is left of a tag is text, with its < escaped.
            let tags: Vec<&str> = html.split('<').skip(1).collect();
            for tag in &tags {
                let tag = tag.split('>').next().unwrap();
                for bad in [
                    "script",
                    "img",
                    "svg",
                    "iframe",
                    "style",
                    "link",
                    "base",
                    "form",
                    "input",
                    "audio",
                    "video",
                    "object",
                    "embed",
                    "id=",
                    "class=",
                    " on",
                    "javascript:",
                    "data:",
                    "src",
                ] {
                    assert!(!tag.contains(bad), "{text}: {html}");
                }
            }
        }
        let link = safe_html("[a](https://example.org/?a=1&b=2)");
        assert!(
            link.contains("rel=\"noopener noreferrer\"") && link.contains("target=\"_blank\""),
            "{link}"
        );
    }

    #[test]
    fn colours_of_terminals_and_turned_directions_are_dropped() {
        assert_eq!(
            printable("\u{1b}[1;31mred\u{1b}[0m\u{202e}x\u{0}\ty\r\n"),
            "redx\ty\n"
        );
        assert_eq!(printable("\u{1b}[31\nline"), "\nline");
    }

    #[test]
    fn no_text_takes_long() {
        let texts = [
            "x".repeat(100_000),
            "> ".repeat(50_000) + "deep",
            "<div>".repeat(20_000),
            "<details>".repeat(20_000),
            "[".repeat(50_000),
            "*a **b ".repeat(15_000),
            "`".repeat(100_000),
            "<b>".repeat(30_000),
            "- ".repeat(40_000),
            "|".repeat(60_000) + "\n" + &"|-".repeat(30_000),
        ];
        let mut slow = Vec::new();
        for text in texts {
            let begun = Instant::now();
            let html = safe_html(&text);
            let took = begun.elapsed();
            let start: String = text.chars().take(10).collect();
            if took > Duration::from_millis(500) {
                slow.push(format!("{start}: {took:?}, {} bytes", html.len()));
            }
        }
        assert!(slow.is_empty(), "{slow:#?}");
    }
}
