"""A person at the sandbox's page, in a real browser: on each platform they ask, follow up, watch, decide, answer, cancel.

    python page.py BASE [DIRECTORY FOR SCREENSHOTS]

BASE is a running `herald sandbox`. Needs selenium in Python, and Debian's chromium and chromium-driver."""

import re
import shutil
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

BASE = sys.argv[1].rstrip("/")
SHOTS = Path(sys.argv[2]) if len(sys.argv) > 2 else None
CHANNELS = ["slack:C0ALERTS", "discord:100000000000000001", "telegram:-1001000000001"]
PATIENCE = 20
ME = "alice"


def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
                     "--window-size=1200,900"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


class Talk:
    """One conversation with the bot in one channel."""

    def __init__(self, driver, channel):
        self.driver = driver
        self.channel = channel
        self.platform = channel.split(":")[0]
        find = lambda selector: driver.find_element(By.CSS_SELECTOR, selector)
        self.until(lambda: find("#live.live"), "the page is live")
        self.until(lambda: find(f'#channels [data-channel="{channel}"]').click() or True, "the channel is there")
        self.until(lambda: find(f'main[data-channel="{channel}"] #log:not([aria-busy])'), "the channel opens")
        self.seen = set()
        self.look()

    def until(self, attempt, what, patience=PATIENCE):
        end = time.monotonic() + patience
        while True:
            try:
                result = attempt()
                if result:
                    return result
            except (StaleElementReferenceException, IndexError):
                pass
            except Exception as error:
                if "no such element" not in str(error):
                    raise
            if time.monotonic() > end:
                shown = "\n---\n".join(text for _, text in self.messages())
                raise AssertionError(f"{self.channel}: {what} did not happen in {patience} s. Shown:\n{shown}")
            time.sleep(0.05)

    def messages(self, bot=None):
        """What is shown: id and text of each message, without those in its thread."""
        return [(one["id"], one["text"]) for one in self.driver.execute_script(
            """return [...document.querySelectorAll("li.message")].map((node) => {
                 const own = node.lastElementChild;
                 const parts = [".body", ".files", ".buttons"].map((part) => own.querySelector(":scope > " + part)?.innerText ?? "");
                 return { id: node.dataset.message, bot: node.dataset.bot, text: parts.join("\\n") };
               })""") if bot is None or one["bot"] == str(bot).lower()]

    def look(self):
        """From here on, what is shown now is old."""
        self.seen = set(self.messages(bot=True))

    def news(self, pattern, what=None, patience=PATIENCE):
        """The bot says something new, or edits something to, that matches."""
        def attempt():
            for message in self.messages(bot=True):
                if message not in self.seen and re.search(pattern, message[1], re.I | re.S):
                    return message
            return None
        return self.until(attempt, what or f"the bot says /{pattern}/", patience)

    def say(self, text):
        self.look()
        box = self.driver.find_element(By.CSS_SELECTOR, '#speak [name="text"]')
        box.send_keys(text, Keys.ENTER)
        said = text.removeprefix("@herald ")
        self.until(lambda: any(said in shown for _, shown in self.messages(bot=False)), f"“{said}” is shown")

    def follow(self, message):
        """Goes on where the bot answered: in its thread, where there is one."""
        node = self.driver.find_element(By.CSS_SELECTOR, f'[data-message="{message[0]}"]')
        threads = node.find_elements(By.XPATH, "ancestor::*[@data-thread]")
        if threads:
            threads[0].find_element(By.CSS_SELECTOR, '[data-act="reply-in-thread"]').click()
            self.mention = ""
        else:
            self.mention = "@herald "

    def press(self, label):
        """Clicks the newest button with this label; the bot's mark before it does not count."""
        def attempt():
            buttons = self.driver.find_elements(By.CSS_SELECTOR, "li.message .press")
            button = [b for b in buttons if b.text == label][-1]
            if not button.is_enabled():
                return None
            button.click()
            return True
        self.until(attempt, f"the button “{label}” can be pressed")

    def gone(self, label):
        buttons = lambda: [b.text for b in self.driver.find_elements(By.CSS_SELECTOR, "li.message .press")]
        self.until(lambda: label not in buttons(), f"the button “{label}” goes")


def talk(driver, channel):
    talk = Talk(driver, channel)

    talk.say("@herald remember the pager")
    first = talk.news("I will remember: the pager")
    talk.follow(first)
    say = lambda text: talk.say(talk.mention + text)

    say("what did I say?")
    talk.news("I remember: the pager")

    say("slow 8")
    progress = talk.news("k8s_get_pods")
    assert "crashes" not in progress[1], "the progress is shown only when all is over"
    talk.news("k8s_get_logs")
    talk.news("Pod api-1 crashes")

    say("approve two")
    talk.news("k8s_delete_pod.*k8s_scale.*Approve all.*Reject all")
    talk.press("Approve k8s_delete_pod")
    talk.gone("Approve k8s_delete_pod")
    talk.press("Reject k8s_scale")
    talk.news(f"approved by [^\n]*{ME}")
    talk.news(f"rejected by [^\n]*{ME}")
    talk.news("deleted pod production/api-1.*rejected by user")
    talk.gone("Reject all")

    say("question")
    talk.news("Which database")
    talk.press("PostgreSQL")
    talk.news("Which features")
    talk.press("Auth")
    talk.press("Caching")
    talk.press("Done")
    talk.news("Anything else")
    say("nothing else")
    answers = talk.news("Tool results")[1]
    for answer in ["PostgreSQL", "Auth", "Caching", "nothing else"]:
        assert answer in answers, f"{answer} is missing in {answers}"

    say("slow 60")
    talk.news("k8s_get_pods")
    talk.press("Cancel")
    # What it says depends on the agent: stopped, or not to be stopped.
    talk.news("cancel|stopped")
    talk.gone("Cancel")

    say("hello again")
    talk.news("You said: hello again")


def main():
    driver = browser()
    try:
        driver.get(BASE)
        for channel in CHANNELS:
            started = time.monotonic()
            try:
                talk(driver, channel)
            finally:
                if SHOTS:
                    SHOTS.mkdir(parents=True, exist_ok=True)
                    driver.save_screenshot(str(SHOTS / f"{channel.split(':')[0]}.png"))
            print(f"{channel}: asked, followed up, watched, decided, answered, cancelled in {time.monotonic() - started:.0f} s")
        wrong = [line for line in driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
        assert not wrong, f"the page's console: {wrong}"
    finally:
        driver.quit()


main()
