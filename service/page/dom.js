// Reaching and making what is on the page.

export const byId = (id) => document.getElementById(id);

/** Texts are set as text, never as markup. */
export const element = (name, properties) => Object.assign(document.createElement(name), properties);
