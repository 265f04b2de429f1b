"""The report and MLflow's pages, as a browser shows them."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.results.publish import publish
from psvae_tune.results.report import make_report
from tests.support.logged_studies import call, log_study, with_space

webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of the driver's sockets
]
PATIENCE = 90  # seconds


@pytest.fixture(scope="module")
def browser():
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,1100"):
        options.add_argument(argument)
    service = webdriver.ChromeService(driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    write_demo(folder / "demo.h5", n_clips=10, clip_length=8, size=16)
    space = {"ps_vae.alpha": {"grid_search": [10, 100, 1000]}}
    study = log_study(folder, folder / "demo.h5", "study", with_space(space))
    (folder / "report.html").write_bytes(publish(study))
    return study


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "browser0" / "report.html"


@pytest.fixture
def keep(browser, request):
    """Keep a screenshot of what the test ended with, where the caller asks for it."""
    yield
    folder = os.environ.get("PSVAE_TUNE_SCREENSHOTS")
    if folder:
        browser.save_screenshot(os.path.join(folder, f"{request.node.name}.png"))


def wait(browser, condition):
    return WebDriverWait(browser, PATIENCE).until(condition)


def open_report(browser, report):
    browser.get(report.as_uri())
    return wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#front .point"))


def test_pointing_shows_a_trial_and_clicking_keeps_it(browser, report, study, keep):
    points = open_report(browser, report)
    assert len(points) == 3
    detail = browser.find_element(By.ID, "detail")
    for point in points:
        ActionChains(browser).move_to_element(point).perform()
        name = point.get_attribute("aria-label")
        assert name in detail.text
        assert detail.find_elements(By.TAG_NAME, "img")[0].get_property("naturalWidth") > 0
    points[0].click()
    kept = points[0].get_attribute("aria-label")
    ActionChains(browser).move_to_element(points[2]).perform()
    assert kept in detail.text
    assert browser.find_element(By.ID, "trial-name").text == kept
    run = points[0].get_attribute("data-run")
    (trial,) = (trial for trial in study.trials if trial.run_id == run)
    command = browser.find_element(By.ID, "command").text
    assert f"model.ps_vae.alpha={trial.params['ps_vae.alpha']}" in command


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_page(browser, report, width, keep):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        open_report(browser, report)
        root = "document.documentElement"
        script = f"return [{root}.scrollWidth, {root}.clientWidth]"
        scrolled, seen = browser.execute_script(script)
        assert scrolled <= seen <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_baseline_that_is_near_the_trials_is_a_line(browser, study, tmp_path, keep):
    """One that is far from them would leave them no room."""
    keys = [f"best/{name}" for name in study.front_metrics]
    (least, most), (low, high) = (
        (min(values), max(values))
        for values in ([trial.metrics[key] for trial in study.finished] for key in keys)
    )
    scores = {"ridge_label_r2": high + 50 * (high - low), "pca_frame_mse": (least + most) / 2}
    with_scores = replace(study, metrics={f"baseline/{k}": v for k, v in scores.items()})
    (page := tmp_path / "report.html").write_text(make_report(with_scores, {}))
    open_report(browser, page)
    words = [text.text for text in browser.find_elements(By.CSS_SELECTOR, "#front text.baseline")]
    assert [word.partition(" with ")[0] for word in words] == ["PCA"]
    assert len(browser.find_elements(By.CSS_SELECTOR, "#front line.baseline")) == 1


def test_the_front_is_a_step_beneath_the_pick_and_its_training(browser, report, study, keep):
    open_report(browser, report)
    lines = browser.find_elements(By.CSS_SELECTOR, "#front .frontline")
    assert len(lines) == (len(study.front()) > 1)
    for line in lines:
        assert re.fullmatch(r"M[\d.]+,[\d.]+(H[\d.]+V[\d.]+)+", line.get_attribute("d"))
    curves = browser.find_element(By.CSS_SELECTOR, "img[alt^='Metrics of the chosen']")
    assert curves.get_property("naturalWidth") > 0


def test_the_table_sorts_both_ways(browser, report, keep):
    open_report(browser, report)
    headings = browser.find_elements(By.CSS_SELECTOR, "#trials th button")
    column = [heading.text for heading in headings].index("best/frame_mse")

    def values():
        rows = browser.find_elements(By.CSS_SELECTOR, "#trials tbody tr")
        cells = (row.find_elements(By.TAG_NAME, "td")[column] for row in rows)
        return [float(cell.get_attribute("data-value")) for cell in cells]

    headings[column].click()
    assert values() == sorted(values())
    headings[column].click()
    assert values() == sorted(values(), reverse=True)


def test_base_frames_change_for_all_trials_at_once(browser, report, keep):
    open_report(browser, report)
    shown = lambda: browser.execute_script(  # noqa: E731
        "return [...document.querySelectorAll('.strip img')].filter(i => !i.hidden)"
        ".map(i => i.className)"
    )
    assert set(shown()) == {"base-0"}
    browser.find_elements(By.NAME, "base")[1].click()
    assert set(shown()) == {"base-1"}


def test_one_button_plays_and_pauses_all_movements(browser, report, keep):
    open_report(browser, report)
    drawn = "return [...document.querySelectorAll('canvas.movement')].map(c => c.toDataURL())"
    wait(browser, lambda b: b.execute_script(drawn)[0] != "data:,")
    first = browser.execute_script(drawn)
    assert browser.execute_script(drawn) == first  # it stands still until it is asked to play
    button = browser.find_element(By.ID, "play")
    button.click()
    wait(
        browser, lambda b: all(a != z for a, z in zip(first, b.execute_script(drawn), strict=True))
    )
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    last = browser.execute_script(drawn)
    time.sleep(0.5)
    assert browser.execute_script(drawn) == last


def test_a_log_scale_moves_points(browser, report, keep):
    # As drawn: trials that are much alike move by less than a pixel of the screen.
    before = [point.get_attribute("outerHTML") for point in open_report(browser, report)]
    browser.find_element(By.ID, "log-x").click()
    after = browser.find_elements(By.CSS_SELECTOR, "#front .point")
    assert len(after) == len(before)
    assert [point.get_attribute("outerHTML") for point in after] != before


def test_the_report_asks_for_nothing_from_elsewhere(browser, report):
    open_report(browser, report)
    fetched = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in fetched if not name.startswith("data:")] == []


def wait_for(address):
    for _ in range(PATIENCE):
        time.sleep(1)
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            continue


@pytest.fixture(scope="module")
def server(study):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", study.target.uri]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    wait_for(f"{address}/health")
    yield address
    process.terminate()
    process.wait()


def page_text(browser):
    return browser.find_element(By.TAG_NAME, "body").text


def test_the_printed_link_shows_charts_at_once(browser, server, study, keep):
    browser.get(study.target.url(server))
    wait(browser, lambda b: "The study" in page_text(b))
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".scatterlayer .point, .parcoords"))
    text = page_text(browser)
    assert "3 matching runs" in text
    assert "Sort: best/frame_mse" in text
    assert "Take ps_vae.alpha =" in text


def test_the_run_of_the_study_tells_the_choice_and_shows_the_report(browser, server, study, keep):
    address = f"{server}/#/experiments/{study.target.experiment_id}/runs/{study.run_id}"
    browser.get(f"{address}?workflowType=machine_learning")
    wait(browser, lambda b: "Take ps_vae.alpha =" in page_text(b))
    browser.get(f"{address}/artifacts/report.html?workflowType=machine_learning")
    frame = wait(browser, lambda b: b.find_elements(By.TAG_NAME, "iframe"))[0]
    browser.switch_to.frame(frame)
    points = wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#front .point"))
    assert len(points) == 3
    assert browser.find_element(By.ID, "recommendation").text.startswith("Take ps_vae.alpha")
    browser.switch_to.default_content()


@pytest.fixture(scope="module")
def dashboard(study, tmp_path_factory):
    """Return the address of Optuna's dashboard, started as `export` says."""
    folder = tmp_path_factory.mktemp("optuna")
    url = f"sqlite:///{folder}/study.db"
    done = call("export", "study", "--tracking-uri", study.target.uri, "--optuna", url)
    program, *arguments = shlex.split(done.output)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with subprocess.Popen(
        [Path(sys.executable).with_name(program), *arguments, "--port", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        address = f"http://127.0.0.1:{port}/dashboard/studies/1"
        wait_for(address)
        yield address
        process.terminate()


def test_the_dashboard_of_optuna_shows_trials_and_their_pictures(browser, dashboard, study, keep):
    browser.get(f"{dashboard}/trials?numbers=0")
    wait(browser, lambda b: "traversals.png" in page_text(b))
    pictures = browser.find_elements(By.CSS_SELECTOR, "img[alt$='.png']")
    assert len(pictures) == 4
    wait(browser, lambda b: all(p.get_property("naturalWidth") > 0 for p in pictures))
    assert f"ps_vae.alpha {study.trials[0].params['ps_vae.alpha']:g}" in page_text(browser)


def test_the_dashboard_of_optuna_selects_trials_with_their_pictures(
    browser, dashboard, study, keep
):
    browser.get(f"{dashboard}/smartSelection")
    wait(browser, lambda b: "Show Artifacts" in page_text(b))
    assert "val/label_r2" in page_text(browser)
    rows = wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "tbody tr"))
    assert len(rows) == len(study.trials)
    (switch,) = browser.find_elements(
        By.XPATH, "//label[contains(., 'Show Artifacts')]//input[@type='checkbox']"
    )
    browser.execute_script("arguments[0].click()", switch)
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "img[alt$='.png']"))
