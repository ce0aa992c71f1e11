/* The page of the padding calculator: the form, the link and the results.
 *
 * The state is in the form, and in the link after the first change. Texts of
 * both reach the page as text nodes only.
 */
(() => {
  'use strict';

  const {ArgumentError, CALLS, counts, evaluate, picture} = tconvPadding;

  const START = {call: 'torch', axes: '2', input: '16', kernel: '4',
                 stride: '2', padding: '1', autoPad: 'NOTSET', extra: '',
                 size: '', dilation: ''};
  const PRESETS = {
    'Doubles the size': {},
    'PyTorch, odd kernel': {kernel: '3', extra: '1'},
    'Keras, same': {call: 'keras', kernel: '3', padding: 'same'},
    'Flax, padding 1': {call: 'flax'},
  };
  const LONGEST = 60;  // Characters of a field in a link.

  let form, status, results;

  /** Makes an element with texts and elements in it. */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function read() {
    return Object.fromEntries(Object.keys(START).map(
        field => [field, form.elements[field].value]));
  }

  function write(state) {
    for (const [field, value] of Object.entries(state)) {
      form.elements[field].value = value;
    }
  }

  /** The state in the link, or the one to start with. */
  function linked() {
    const link = new URLSearchParams(location.hash.slice(1));
    if (!Object.hasOwn(CALLS, link.get('call'))) return START;
    const valid = ({options}, text) => options
        ? [...options].some(({value}) => value === text)
        : text.length <= LONGEST;
    return Object.fromEntries(Object.keys(START).map(field => {
      const element = form.elements[field];
      const text = link.get(field) ?? '';
      return [field, valid(element, text) ? text
          : element.options ? START[field] : ''];
    }));
  }

  /** A link to a state, without the fields that its call does not have. */
  function link(state) {
    const {fields} = CALLS[state.call];
    return `#${new URLSearchParams(Object.entries(state).filter(
        ([field, text]) => text
            && (field in fields || field === 'call' || field === 'axes')))}`;
  }

  /** Shows the fields that the call has, under its own names. */
  function label() {
    const {fields} = CALLS[form.elements.call.value];
    for (const element of form.querySelectorAll('[data-field]')) {
      const name = fields[element.dataset.field];
      element.hidden = !name;
      element.querySelector('span').textContent = name ?? '';
    }
  }

  function copyButton(text, code) {
    const button = make('button', {type: 'button'}, 'Copy');
    const say = word => {
      button.textContent = word;
      setTimeout(() => button.textContent = 'Copy', 2000);
    };
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text);
        say('Copied');
      } catch {  // The browser forbids it: the reader can press Ctrl+C.
        getSelection().selectAllChildren(code);
        say('Selected');
      }
    });
    return button;
  }

  /** A call with its button; `state` adds a link that opens it. */
  function callBox(text, state) {
    const code = make('code', {}, text);
    const box = make('div', {class: 'padding-call'},
                     make('pre', {tabindex: '0'}, code),
                     copyButton(text, code));
    if (state) box.append(make('a', {href: link(state)}, 'Open here'));
    return box;
  }

  function sizes(axes) {
    const rows = axes.map((axis, i) => make(
        'tr', {}, make('td', {}, String(i)),
        make('td', {}, `(${axis.low}, ${axis.high})`),
        make('td', {}, `${axis.filled} = ${axis.size}`)));
    const heads = ['axis', '(low, high)', 'output size'].map(
        text => make('th', {scope: 'col'}, text));
    return make('div', {class: 'padding-wide', tabindex: '0'}, make(
        'table', {}, make('thead', {}, make('tr', {}, ...heads)),
        make('tbody', {}, ...rows)));
  }

  /** The picture of the chosen axis, and what it says in words. */
  function row(axes) {
    const box = make('div', {});
    const choice = make('select', {}, ...axes.map(
        (_, i) => make('option', {value: i}, String(i))));
    const draw = () => {
      const axis = axes[choice.value];
      const phases = counts(axis);
      const even = phases.every(count => count === phases[0]);
      const shown = phases.slice(0, 8).join(', ');
      box.replaceChildren(picture(axis), make('p', {}, even
          ? `Far from the ends, each output gets ${phases[0]} contributions.`
          : `Far from the ends, outputs get ${shown}`
              + `${phases.length > 8 ? ', ...' : ''} contributions in turn. `
              + 'Such an uneven overlap can show as a checkerboard.'));
    };
    choice.addEventListener('change', draw);
    draw();
    return [make('label', {}, 'Axis ', choice), box];
  }

  function show() {
    label();
    let solved;
    try {
      solved = evaluate(read());
    } catch (error) {
      if (!(error instanceof ArgumentError)) throw error;
      status.className = 'illegal';
      status.textContent = `Illegal: ${error.message}`;
      results.replaceChildren();
      return;
    }
    const {axes, text, equal} = solved;
    const others = equal.flatMap(other => [
      make('dt', {}, CALLS[other.call].title),
      make('dd', {}, other.text ? callBox(other.text, other.state)
          : make('p', {}, `None. ${other.reason}`))]);
    status.className = '';
    status.textContent =
        `Output size: ${axes.map(({size}) => size).join(' × ')}`;
    results.replaceChildren(
        callBox(text), make('p', {}, `The rule, for each axis: size = `,
                            make('code', {}, axes[0].formula)),
        sizes(axes), make('h3', {}, 'Equal calls'), make('dl', {}, ...others),
        make('h3', {}, 'Which inputs reach which outputs'), ...row(axes));
  }

  function change() {
    history.replaceState(null, '', link(read()));
    show();
  }

  document.addEventListener('DOMContentLoaded', () => {
    form = document.getElementById('padding-form');
    status = document.getElementById('padding-status');
    results = document.getElementById('padding-results');
    form.elements.call.append(...Object.entries(CALLS).map(
        ([name, {title, form: call}]) => make(
            'option', {value: name}, `${title}: ${call}`)));
    document.getElementById('padding-presets').append(
        ...Object.entries(PRESETS).map(([name, changes]) => {
          const button = make('button', {type: 'button'}, name);
          button.addEventListener('click', () => {
            write({...START, ...changes});
            change();
          });
          return button;
        }));
    form.addEventListener('input', change);
    form.addEventListener('submit', event => event.preventDefault());
    addEventListener('hashchange', () => {
      if (/^#(.*&)?call=/.test(location.hash)) {  // Others are headings.
        write(linked());
        show();
      }
    });
    write(linked());
    show();
  });
})();
