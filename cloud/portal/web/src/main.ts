import { createApp } from 'vue'
import 'element-plus/es/components/base/style/css'
import './tokens.css'
import './base.css'
import App from './App.vue'
import { router } from './router'

createApp(App).use(router).mount('#app')
