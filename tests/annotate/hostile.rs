//! Issues that mean harm.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::browser::Browser;
use crate::page::{ENTER, is_quiet, open, press, shown, text};
use crate::program::{Server, lines, mine};
use crate::tiny::faultlens;

const EVIL: &str = "http://127.0.0.9:9/evil";

fn bodies() -> Vec<String> {
    let mut bodies: Vec<String> = [
        "<script>window.ran = 1; console.log('ran')</script>",
        "<img src=x onerror=\"window.ran = 1\"><img src=EVIL>",
        "![image](EVIL) ![data](data:image/png;base64,AAAA) [![badge](EVIL)](EVIL)",
        "<svg onload=\"window.ran = 1\"><script>window.ran = 1</script><image href=EVIL /></svg>",
        "[click](javascript:window.ran=1) <a href=\"jav&#x09;ascript:window.ran=1\">click</a> <javascript:window.ran=1>",
        "<details open ontoggle=\"window.ran = 1\"><summary onclick=\"window.ran = 1\">env</summary>x</details>",
        "<iframe src=EVIL></iframe><iframe srcdoc=\"<script>parent.ran = 1</script>\"></iframe><object data=EVIL></object>",
        "<style>@import 'EVIL'; body { display: none }</style><link rel=stylesheet href=EVIL><p style=\"position:fixed;inset:0;background:url(EVIL)\">over</p>",
        "<meta http-equiv=refresh content=\"0;url=EVIL\"><base href=EVIL><form action=EVIL><input autofocus onfocus=\"window.ran = 1\"><button>go</button></form>",
        "<div id=save><form id=choice><input name=submit></form></div><p id=issue class=hidden name=body>clobber",
        "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=EVIL onerror=window.ran=1&gt;\">",
        "</article></main></body><script>window.ran = 1</script><b><i><table><tr><td></b></i><p>broken",
        "<noscript><p title=\"</noscript><img src=x onerror=window.ran=1>\"></noscript><template><script>window.ran=1</script></template>",
        "<video src=EVIL poster=EVIL autoplay></video><audio src=EVIL autoplay></audio><embed src=EVIL>",
        "```html\n<script>window.ran = 1</script>\n```\n\u{1b}[31mred\u{1b}[0m \u{202e}gnp.exe\u{0}",
    ]
    .map(|body| body.replace("EVIL", EVIL))
    .into();
    bodies.extend([
        "x".repeat(100_000),
        format!("```\n{}\n```", "y ".repeat(50_000)),
        "> ".repeat(40_000),
        "<details>".repeat(12_000),
        "[](".repeat(30_000),
        "&#x202e;&lt;script&gt;".repeat(4_000),
        String::new(),
    ]);
    bodies
}

#[test]
fn nothing_in_an_issue_runs_loads_or_breaks_the_page_which_answers_in_100_ms() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let issues = folder.path().join("issues.jsonl");
    let bodies = bodies();
    let records = bodies.iter().zip(1..).map(|(body, number)| {
        let title = format!("<img src={EVIL} onerror=window.ran=1> & \u{202e}title");
        let record = json!({ "repo": "evil/evil", "number": number, "title": title, "body": body });
        record.to_string() + "\n"
    });
    fs::write(&issues, records.collect::<String>()).unwrap();
    let file = mine(&folder);
    let mut command = faultlens();
    command.args(["annotate", "--no-open", "--annotator", "<b>ann</b>"]);
    command
        .arg("--issues")
        .arg(&issues)
        .arg("--labels")
        .arg(&file);
    let server = Server::start(&mut command);

    // The best of three, because the machine may be busy.
    let time = |url: &str| {
        let tries = (0..3).map(|_| {
            let begun = Instant::now();
            reqwest::blocking::get(url).unwrap().bytes().unwrap();
            begun.elapsed()
        });
        tries.min().unwrap()
    };
    for number in 1..=bodies.len() {
        let took = time(&format!(
            "{}issue?repo=evil/evil&number={number}",
            server.url
        ));
        assert!(took < Duration::from_millis(100), "{number}: {took:?}");
    }
    for path in ["", "next", "status", "search?words=title"] {
        let took = time(&format!("{}{path}", server.url));
        assert!(took < Duration::from_millis(100), "{path}: {took:?}");
    }

    open(&browser, &server);
    for done in 1..=bodies.len() {
        let found = browser.run(
            "const body = document.getElementById('body');
            body.querySelectorAll('details').forEach((details) => { details.open = true; });
            const bad = 'script, img, svg, iframe, object, embed, style, link, meta, base, form, input, '
                + 'video, audio, template, [style], [id], [class], [onclick], [onerror]';
            const hrefs = [...body.querySelectorAll('a[href]')].map((a) => a.protocol);
            return [
                window.ran ?? null,
                body.querySelectorAll(bad).length,
                document.querySelectorAll('script').length,
                hrefs.every((protocol) => /^https?:$/.test(protocol)),
                document.querySelector('#title').children.length,
                getComputedStyle(document.body).display !== 'none',
                document.documentElement.scrollWidth <= document.documentElement.clientWidth,
            ];",
        );
        let name = shown(&browser);
        assert_eq!(found, json!([null, 0, 1, true, 0, true, true]), "{name}");
        press(&browser, &format!("4{ENTER}"));
        assert_eq!(lines(&file).len(), done);
    }
    assert!(text(&browser, "mode").contains("<b>ann</b>"));
    assert_eq!(browser.run("return window.ran ?? null"), Value::Null);
    is_quiet(&browser, &server);
}
