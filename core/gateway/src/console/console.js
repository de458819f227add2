'use strict';
// The page works without this; with it, what happens appears by itself and the form stays in place.
const story = document.getElementById('story');
const form = document.getElementById('act');
const wrong = document.getElementById('wrong');
const talk = document.getElementById('talk');

const toEnd = () => story.lastElementChild?.scrollIntoView({ block: 'nearest' });
toEnd();

const events = new EventSource('/events?after=' + story.dataset.newest);
events.onmessage = event => {
  story.insertAdjacentHTML('beforeend', event.data);
  toEnd();
};

const complain = text => {
  wrong.textContent = text;
  wrong.hidden = !text;
};

form.addEventListener('submit', async event => {
  event.preventDefault();
  const button = event.submitter;
  const fields = new URLSearchParams(new FormData(form, button));
  try {
    const answer = await fetch('/act', { method: 'POST', body: fields, headers: { Accept: 'text/plain' } });
    complain(answer.ok ? '' : await answer.text());
    if (answer.ok && button.value === 'message') form.elements.body.value = '';
  } catch (error) {
    complain('The console does not answer: ' + error.message);
  }
});

// Enter sends, Shift+Enter begins a new line.
form.elements.body.addEventListener('keydown', event => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit(form.querySelector('button[value=message]'));
  }
});

form.elements.user.addEventListener('change', () => {
  talk.href = '/talk.txt?' + new URLSearchParams({ user: form.elements.user.value });
});
