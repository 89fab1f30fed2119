import js from '@eslint/js'
import vue from 'eslint-plugin-vue'
import ts from 'typescript-eslint'

export default ts.config(
  { ignores: ['node_modules', '../static'] },
  js.configs.recommended,
  ...ts.configs.recommended,
  ...vue.configs['flat/essential'],
  {
    files: ['**/*.vue', '**/*.ts'],
    languageOptions: { parserOptions: { parser: ts.parser }, globals: Object.fromEntries(['window', 'document', 'navigator', 'fetch', 'localStorage',
      'EventSource', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'requestAnimationFrame', 'cancelAnimationFrame', 'performance',
      'crypto', 'URL', 'URLSearchParams', 'ResizeObserver', 'matchMedia', 'HTMLElement', 'SVGElement', 'Response', 'getComputedStyle', 'Event',
      'MessageEvent', 'KeyboardEvent', 'MouseEvent', 'PointerEvent', 'AbortController', 'AbortSignal', 'process', 'HTMLInputElement', 'DOMException', 'MediaQueryListEvent',
      'PublicKeyCredential', 'PublicKeyCredentialDescriptor', 'PublicKeyCredentialCreationOptions', 'PublicKeyCredentialRequestOptions', 'AuthenticatorAttestationResponse',
      'AuthenticatorAssertionResponse', 'atob', 'btoa', 'RequestInit', 'location', 'Headers', 'HTMLSelectElement', 'Intl', 'console'].map((name) => [name, 'readonly'])) },
    rules: { 'vue/multi-word-component-names': 'off', 'no-undef': 'error', '@typescript-eslint/no-explicit-any': 'error' },
  },
)
