(function () {
  var svg = document.documentElement, all = function (query, from) { return Array.from((from || svg).querySelectorAll(query)); };
  var spaces = all('.space'), routes = all('.route'), XHTML = 'http://www.w3.org/1999/xhtml';
  svg.classList.add('js');
  // Closed namespaces take one line; what follows moves up.
  function lay() {
    var y = 64;
    spaces.forEach(function (space) {
      if (space.style.display === 'none') return;
      space.setAttribute('transform', 'translate(0,' + y + ')');
      y += space.classList.contains('shut') ? 36 : Number(space.dataset.height);
      space.querySelector('.arrow').textContent = space.classList.contains('shut') ? '▸' : '▾';
    });
    svg.setAttribute('height', y + 16);
    svg.setAttribute('viewBox', '0 0 1240 ' + (y + 16));
  }
  var many = routes.length > 200;
  function shut(space, is) { space.classList.toggle('shut', is); }
  spaces.forEach(function (space) {
    shut(space, many);
    space.querySelector('.head').addEventListener('click', function () { shut(space, !space.classList.contains('shut')); lay(); });
  });
  var holder = document.createElementNS('http://www.w3.org/2000/svg', 'foreignObject');
  [['x', 900], ['y', 12], ['width', 320], ['height', 34]].forEach(function (one) { holder.setAttribute(one[0], one[1]); });
  var input = document.createElementNS(XHTML, 'input');
  input.setAttribute('placeholder', 'search hosts, paths, Services, endpoints');
  holder.appendChild(input);
  svg.appendChild(holder);
  var hits = [], next = 0;
  input.addEventListener('input', function () {
    var wanted = input.value.trim().toLowerCase();
    hits = [];
    spaces.forEach(function (space) {
      var found = 0;
      var inName = space.dataset.name.toLowerCase().includes(wanted);
      all('.route', space).forEach(function (route) {
        var is = inName || route.dataset.text.toLowerCase().includes(wanted);
        route.classList.toggle('dim', !is);
        if (is) { found += 1; if (wanted) hits.push(route); }
      });
      space.style.display = wanted && !found && !inName && !all('.problem', space).some(function (one) {
        return one.textContent.toLowerCase().includes(wanted);
      }) ? 'none' : '';
      shut(space, wanted ? false : many);
    });
    next = 0;
    lay();
  });
  // Enter goes from hit to hit.
  input.addEventListener('keydown', function (event) {
    if (event.key !== 'Enter' || !hits.length) return;
    hits[next % hits.length].scrollIntoView({ block: 'center' });
    next += 1;
  });
  function mark(target, is) {
    var at = target.closest('[data-h],[data-s]'), space = target.closest('.space');
    if (!at || !space) return;
    all('.on', space).forEach(function (one) { one.classList.remove('on'); });
    if (!is) return;
    at.classList.add('on');
    var route = at.classList.contains('route');
    all('[data-h],[data-s]', space).forEach(function (one) {
      var h = at.dataset.h !== undefined && one.dataset.h === at.dataset.h, s = at.dataset.s !== undefined && one.dataset.s === at.dataset.s;
      if ((h || s) && !(route && one.classList.contains('route'))) one.classList.add('on');
    });
  }
  svg.addEventListener('mouseover', function (event) { mark(event.target, true); });
  svg.addEventListener('mouseout', function (event) { mark(event.target, false); });
  lay();
})();
