"""The reference in a browser: navigation and the try-out forms, on a desktop and on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, async_playwright, expect

from tests.conftest import ADMIN, PASSWORD, Api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The first allows running as root, as in a container; the second prevents requests to other hosts.
FLAGS = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
DESKTOP, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=360, height=740)

# All text whose contrast with its background is below AA (WCAG 2.2, 1.4.3).
LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]]
    .map(([v, w]) => w * (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part) => sum + part);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = rgba(getComputedStyle(one).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const found = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (!texts.length && !element.matches("input, textarea")) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...found];
}"""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "Chromium is not installed"
        pytest.skip("Chromium is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def open_page(context: BrowserContext) -> tuple[Page, list[str], list[str]]:
    """Return a new page, the list of its errors, and the list of requested hosts."""
    page, console_errors, hosts = await context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: console_errors.append(message.text))
    page.on("pageerror", lambda error: console_errors.append(str(error)))
    page.on("request", lambda request: hosts.append(urlsplit(request.url).hostname or ""))
    return page, console_errors, hosts


async def test_the_overview_can_be_read_and_a_resource_tried_out(browser: Browser, api: Api) -> None:
    await api.post("/contacts", {"name": "Grace Hopper", "email": "grace@example.org"})
    context = await browser.new_context(viewport=DESKTOP)
    page, console_errors, hosts = await open_page(context)
    await page.goto(f"{api.url}/docs")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    await expect(page.get_by_text("Use the links on the right")).to_be_visible()
    links = page.get_by_role("complementary").get_by_role("navigation")
    box, text = await links.bounding_box(), await page.get_by_role("main").locator("p").nth(1).bounding_box()
    assert box
    assert text
    assert box["x"] > text["x"] + text["width"], "the links are not on the right"
    await page.mouse.wheel(0, 5000)
    await expect(links.get_by_role("link", name="contacts")).to_be_in_viewport()

    await links.get_by_role("link", name="contacts").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("contacts")
    assert f"curl {api.url}/contacts" in await page.locator("#get-contacts pre").first.inner_text()
    listing, making = page.locator("#get-contacts .try"), page.locator("#post-contacts .try")
    await listing.get_by_text("Try it").click()
    await listing.get_by_label("Query").fill("sort=name&fields=name")
    await listing.get_by_label("User name").fill(ADMIN)
    await listing.get_by_label("Password").fill(PASSWORD)
    await listing.get_by_role("button", name="Send GET").click()
    await expect(listing.get_by_role("status")).to_contain_text("200 OK")
    await expect(listing.get_by_role("status")).to_contain_text('"name": "Grace Hopper"')
    await listing.get_by_text("Headers").last.click()
    await expect(listing.get_by_role("status")).to_contain_text("x-request-id: ")

    # The credentials were entered once; the example in the form can be sent unchanged.
    await making.get_by_text("Try it").click()
    await making.get_by_role("button", name="Send POST").click()
    await expect(making.get_by_role("status")).to_contain_text("201 Created")
    created = (await api.get("/contacts?sort=-id&limit=1")).json["items"][0]["id"]
    deleting = page.locator("#delete-contacts-id .try")
    await deleting.get_by_text("Try it").click()
    await expect(deleting.get_by_label("Id")).to_have_value(created)
    await deleting.get_by_role("button", name="Send DELETE").click()
    await expect(deleting.get_by_role("status")).to_contain_text("204 No Content")
    assert (await api.get(f"/contacts/{created}")).status == 404

    assert not console_errors
    assert set(hosts) == {"127.0.0.1"}
    await context.close()


async def test_error_responses_are_shown(browser: Browser, api: Api) -> None:
    context = await browser.new_context(viewport=DESKTOP)
    page, console_errors, _ = await open_page(context)
    await page.goto(f"{api.url}/docs/contacts")
    trying = page.locator("#get-contacts-id .try")
    await trying.get_by_text("Try it").click()
    await trying.get_by_label("Id").fill("<b>&/")
    await trying.get_by_role("button", name="Send GET").click()
    await expect(trying.get_by_role("status")).to_contain_text("401 Unauthorized")
    await expect(trying.get_by_role("status")).to_contain_text('"code": 12000')
    # The browser logs this by itself; the pages log nothing.
    assert all("401 (Unauthorized)" in error for error in console_errors)
    await context.close()


@pytest.mark.parametrize("path", ["/docs", "/docs/contacts", "/docs/clients"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_has_sufficient_contrast(browser: Browser, running: Api, path: str, scheme: str) -> None:
    context = await browser.new_context(viewport=DESKTOP, color_scheme=scheme)  # type: ignore[arg-type]  # a plain str
    page, console_errors, _ = await open_page(context)
    await page.goto(running.url + path)
    for details in await page.locator("details:visible").all():
        await details.evaluate("one => { one.open = true; }")
    assert await page.evaluate(LOW_CONTRAST) == []
    assert not console_errors
    await context.close()


@pytest.mark.parametrize("path", ["/docs", "/docs/contacts", "/docs/clients"])
async def test_a_phone_needs_no_horizontal_scrolling(browser: Browser, running: Api, path: str) -> None:
    context = await browser.new_context(viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True)
    page, console_errors, _ = await open_page(context)
    await page.goto(running.url + path)
    for details in await page.locator("main details").all():
        await details.evaluate("one => { one.open = true; }")
    assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    links = page.get_by_role("banner").get_by_role("navigation")
    await expect(links).to_be_hidden()
    await page.get_by_text("Menu").tap()
    await links.get_by_role("link", name="Overview").tap()
    await expect(page).to_have_url(f"{running.url}/docs")
    assert not console_errors
    await context.close()


async def test_the_keyboard_reaches_the_content_first(browser: Browser, running: Api) -> None:
    context = await browser.new_context(viewport=DESKTOP)
    page, _, _ = await open_page(context)
    await page.goto(f"{running.url}/docs/contacts")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("main a").first).to_be_focused()
    outline = await page.locator("main a").first.evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"
    await context.close()


async def test_pages_are_complete_without_scripts(browser: Browser, running: Api) -> None:
    context = await browser.new_context(viewport=DESKTOP, java_script_enabled=False)
    page, console_errors, _ = await open_page(context)
    await page.goto(f"{running.url}/docs/contacts")
    await expect(page.get_by_text("curl https://api.example.org/contacts").first).to_be_visible()
    await expect(page.get_by_text("Try it").first).to_be_hidden()
    assert not console_errors
    await context.close()
