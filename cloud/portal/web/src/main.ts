import { createApp } from 'vue'
import 'element-plus/es/components/base/style/css'
import './tokens.css'
import './base.css'
import App from './App.vue'
import { router } from './router'

// A tab opened before an upgrade asks for files that are gone: read the new page, once.
window.addEventListener('vite:preloadError', (event) => {
  event.preventDefault()
  window.location.reload()
})
createApp(App).use(router).mount('#app')
